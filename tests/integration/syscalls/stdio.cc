// The C library's streams on sockets.
#include "transcript.h"

namespace {

void Streams(Address address) {
  Title("fdopen");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  for (int side = 0; side < 2; ++side) {
    int fd = side == 0 ? pair.client : pair.server;
    int other = side == 0 ? pair.server : pair.client;
    FILE* out = fdopen(dup(fd), "w");
    FILE* in = fdopen(dup(other), "r");
    Show("the descriptor under it", fileno(out) != fd);
    Show("fprintf", fprintf(out, "number %d\n", 42));
    char c;
    Show("nothing has left yet", recv(other, &c, 1, MSG_DONTWAIT));
    Show("fflush", fflush(out));
    char line[64] = {};
    Show("fgets", fgets(line, sizeof line, in) != nullptr);
    std::printf("%s", line);
    std::string big(100'000, 'b');
    Show("fwrite", static_cast<long>(fwrite(big.data(), 1, 60'000, out)));
    Show("fputc", fputc('\n', out));
    fflush(out);
    char* text = nullptr;
    size_t room = 0;
    Show("getline", getline(&text, &room, in));
    free(text);
    Show("fseek", fseek(in, 0, SEEK_SET));
    Show("ftell", ftell(in));
    Show("fclose", fclose(out));
    Show("fclose", fclose(in));
    Show("the socket is still there", send(fd, "x", 1, 0));
    Show("recv", recv(other, &c, 1, 0));
  }
  FILE* both = fdopen(pair.server, "r+");
  Show("fdopen r+", both != nullptr);
  send(pair.client, "hello\n", 6, 0);
  char line[64] = {};
  Show("fgets", fgets(line, sizeof line, both) != nullptr);
  setvbuf(both, nullptr, _IONBF, 0);
  Show("fputs, unbuffered", fputs("answer", both) >= 0);
  Show("recv", recv(pair.client, line, 6, MSG_WAITALL));
  shutdown(pair.client, SHUT_WR);
  Show("fgetc at the end", fgetc(both));
  Show("feof", feof(both) != 0);
  Show("ferror", ferror(both) != 0);
  Show("fclose", fclose(both));
  Show("close after it", close(pair.server));
  close(pair.client);
  Show("fdopen with bad modes", fdopen(listener, "x") != nullptr);
  Show("its errno", -errno);

  Title("dprintf");
  pair = Connected(listener, address);
  Show("dprintf", dprintf(pair.client, "%s and %d", "text", 7));
  std::memset(line, 0, sizeof line);
  Show("recv", recv(pair.server, line, 10, MSG_WAITALL));
  std::printf("%s\n", line);
  close(pair.server);
  Await(pair.client, POLLIN);
  (void)!send(pair.client, "x", 1, MSG_NOSIGNAL);
  usleep(50'000);
  Show("dprintf to nobody", dprintf(pair.client, "gone"));
  close(pair.client);

  Title("a stream of a socket whose peer has gone");
  pair = Connected(listener, address);
  FILE* out = fdopen(pair.client, "w");
  close(pair.server);
  (void)!send(pair.client, "x", 1, MSG_NOSIGNAL);
  usleep(50'000);
  fputs("lost", out);
  Show("fflush", fflush(out));
  Show("ferror", ferror(out) != 0);
  Show("fclose", fclose(out));
  close(listener);
}

// In children, for a stream becomes a socket's once in a process.
void Buffering(Address address) {
  Title("buffering that was set before");
  for (int mode : {_IONBF, _IOLBF, _IOFBF}) {
    std::fflush(stdout);
    if (fork() == 0) {
      int listener = Listen(address);
      Pair pair = Connected(listener, address);
      int saved = dup(1);
      std::setvbuf(stdout, nullptr, mode, 4096);
      dup2(pair.server, 1);
      std::printf("a %s\n", mode == _IONBF ? "lone" : "line");
      std::printf("and a question? ");
      usleep(20'000);
      char in[64];
      long n = recv(pair.client, in, sizeof in, MSG_DONTWAIT);
      dprintf(saved, "arrived of it: %ld\n", n);
      _exit(0);
    }
    wait(nullptr);
  }
}

void Standard(Address address) {
  Title("the standard streams on a socket");
  std::fflush(stdout);
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  int saved = dup(1);
  std::printf("kept in the buffer, ");
  dup2(pair.server, 1);
  dup2(pair.server, 0);
  std::printf("printed later\n");
  std::fflush(stdout);
  send(pair.client, "a line\nanother\n", 15, 0);
  char line[64] = {};
  bool read_line = fgets(line, sizeof line, stdin) != nullptr && std::strcmp(line, "a line\n") == 0;
  int c = getchar();
  int number = fileno(stdout);
  dup2(saved, 1);
  close(saved);
  close(0);
  std::printf("fgets: %d getchar: %c fileno: %d\n", read_line, c, number);
  char in[64] = {};
  Show("recv", recv(pair.client, in, 34, MSG_WAITALL));
  std::printf("%s", in);
  ClosePair(pair);
  close(listener);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  signal(SIGPIPE, SIG_IGN);
  Address address(argv[1]);
  Streams(address);
  Buffering(address);
  Standard(address);
}
