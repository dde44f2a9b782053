// `ustcp ss`: the host's sockets as ss(8) shows the kernel's.
#include "tools/ss.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "stack/tcp/tcb.h"
#include "tools/check.h"
#include "tools/commands.h"

namespace ustcp::tool {

namespace {

struct SsOptions {
  bool all = false;
  bool listening = false;
  bool timers = false;
  bool information = false;
  bool processes = false;
  bool memory = false;
  bool extended = false;
  bool summary = false;
  bool engine = false;
  bool check = false;
  bool json = false;
  bool no_header = false;
  bool v4 = false;
  bool v6 = false;
  bool accepted = false;  // -t -n -r and the like: what we do in any case
  std::vector<std::string> filter;
};

// state NAME..., sport = :PORT, dport = :PORT, and addresses after src and dst; all of them must hold.
struct Filter {
  std::vector<TcpState> states;  // empty: as -a and -l say
  int sport = -1;
  int dport = -1;
  bool has_src = false;
  bool has_dst = false;
  IpPrefix src;
  IpPrefix dst;
};

constexpr TcpState kAllStates[] = {
    TcpState::kEstablished, TcpState::kSynSent,   TcpState::kSynRecv, TcpState::kFinWait1, TcpState::kFinWait2,
    TcpState::kTimeWait,    TcpState::kCloseWait, TcpState::kLastAck, TcpState::kListen,   TcpState::kClosing};

std::string Lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c == '_' ? '-' : c;
  return text;
}

bool AddState(const std::string& word, bool exclude, Filter* filter) {
  auto matches = [&word](TcpState state) {
    std::string name = Lower(StateText(state));
    bool half_open = state == TcpState::kSynSent || state == TcpState::kSynRecv;
    if (word == "all") return true;
    if (word == "connected") return state != TcpState::kListen;
    if (word == "synchronized") return state != TcpState::kListen && !half_open;
    if (word == "bucket") return state == TcpState::kTimeWait || state == TcpState::kSynRecv;
    if (word == "big") return state != TcpState::kTimeWait && state != TcpState::kSynRecv;
    if (word == "established") return state == TcpState::kEstablished;
    if (word == "listening") return state == TcpState::kListen;
    return word == name;
  };
  bool any = false;
  for (TcpState state : kAllStates) any |= matches(state);
  if (!any) return false;
  if (exclude && filter->states.empty()) filter->states.assign(std::begin(kAllStates), std::end(kAllStates));
  for (TcpState state : kAllStates) {
    if (!matches(state)) continue;
    std::erase(filter->states, state);
    if (!exclude) filter->states.push_back(state);
  }
  return true;
}

// ":80", "80", "10.0.0.1:80", "10.0.0.0/8"
void ParsePlace(const std::string& word, int* port, bool* has_address, IpPrefix* address) {
  size_t colon = word.rfind(':');
  std::string left = word, right;
  if (colon != std::string::npos && (word.find(':') == colon || (colon > 0 && word[colon - 1] == ']'))) {
    left = word.substr(0, colon);
    right = word.substr(colon + 1);
  }
  if (left.size() > 1 && left.front() == '[' && left.back() == ']') left = left.substr(1, left.size() - 2);
  if (!right.empty() && right != "*") {
    if (right.find_first_not_of("0123456789") != std::string::npos || right.size() > 5)
      throw CommandError("port '" + right + "' is no number", 2);
    *port = std::stoi(right);
  }
  if (left.empty() || left == "*") return;
  if (!ParsePrefix(left, address)) throw CommandError("'" + word + "' is no address", 2);
  *has_address = true;
}

// As ss, takes a filter as one word too: 'sport = :80'.
std::vector<std::string> SplitWords(const std::vector<std::string>& arguments) {
  std::vector<std::string> words;
  for (const std::string& argument : arguments) {
    std::istringstream stream(argument);
    for (std::string word; stream >> word;) words.push_back(word);
  }
  return words;
}

Filter ParseFilter(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = SplitWords(arguments);
  Filter filter;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    auto next = [&]() -> const std::string& {
      if (i + 1 >= words.size()) throw CommandError("filter ends after '" + word + "'", 2);
      return words[++i];
    };
    if (word == "(" || word == ")" || word == "and" || word == "&" || word == "&&") continue;
    if (word == "state" || word == "exclude") {
      std::string name = Lower(next());
      if (!AddState(name, word == "exclude", &filter)) throw CommandError("no state '" + name + "'", 2);
    } else if (word == "sport" || word == "dport") {
      std::string place = next();
      if (place == "=" || place == "==" || place == "eq") place = next();
      if (place.find(':') == std::string::npos) place.insert(0, ":");
      bool unused = false;
      IpPrefix address;
      ParsePlace(place, word == "sport" ? &filter.sport : &filter.dport, &unused, &address);
    } else if (word == "src" || word == "dst") {
      std::string place = next();
      if (place == "=" || place == "==") place = next();
      if (word == "src")
        ParsePlace(place, &filter.sport, &filter.has_src, &filter.src);
      else
        ParsePlace(place, &filter.dport, &filter.has_dst, &filter.dst);
    } else {
      throw CommandError("filter '" + word + "' is not understood; use state, sport, dport, src, dst", 2);
    }
  }
  return filter;
}

bool Shown(const SocketRow& row, const SsOptions& options, const Filter& filter) {
  if (options.v4 != options.v6 && options.v4 == row.v6_socket) return false;
  if (!filter.states.empty()) {
    if (std::find(filter.states.begin(), filter.states.end(), row.state) == filter.states.end()) return false;
  } else if (options.listening) {
    if (row.state != TcpState::kListen) return false;
  } else if (!options.all) {
    // As ss: neither listeners nor what has no socket of its own any more, or not yet.
    if (row.state == TcpState::kListen || row.state == TcpState::kTimeWait || row.state == TcpState::kSynRecv)
      return false;
  }
  if (filter.sport >= 0 && row.local.port != filter.sport) return false;
  if (filter.dport >= 0 && row.peer.port != filter.dport) return false;
  if (filter.has_src && !filter.src.Contains(row.local.address)) return false;
  if (filter.has_dst && !filter.dst.Contains(row.peer.address)) return false;
  return true;
}

std::string PlaceText(const SocketRow& row, const Endpoint& place) {
  std::string port = place.port != 0 ? std::to_string(place.port) : "*";
  if (place.address.is_any()) {
    // A dual-stack wildcard is neither [::] nor 0.0.0.0: ss prints a star.
    if (row.v6_socket) return (row.v6only ? "[::]:" : "*:") + port;
    return "0.0.0.0:" + port;
  }
  std::string address = AddressText(place.address);
  if (!place.address.is_v4()) return "[" + address + "]:" + port;
  return (row.v6_socket ? "[::ffff:" + address + "]:" : address + ":") + port;
}

std::string UsersText(const SocketRow& row) {
  if (row.users.empty()) return {};
  std::vector<std::string> users;
  for (const SocketUser& user : row.users)
    users.push_back(fmt::format("(\"{}\",pid={},fd={})", user.program, user.pid, user.fd));
  return fmt::format("users:({})", fmt::join(users, ","));
}

void PrintTable(const std::vector<SocketRow>& rows, const SsOptions& options) {
  size_t local_width = 18;
  size_t peer_width = 17;
  std::vector<std::pair<std::string, std::string>> places;
  for (const SocketRow& row : rows) {
    places.emplace_back(PlaceText(row, row.local), PlaceText(row, row.peer));
    local_width = std::max(local_width, places.back().first.size());
    peer_width = std::max(peer_width, places.back().second.size());
  }
  if (!options.no_header)
    fmt::print("{:<10} {:<6} {:<6} {:>{}} {:>{}} {}\n", "State", "Recv-Q", "Send-Q", "Local Address:Port", local_width,
               "Peer Address:Port", peer_width, options.processes ? "Process" : "");
  for (size_t i = 0; i < rows.size(); ++i) {
    const SocketRow& row = rows[i];
    std::string rest;
    auto add = [&rest](const std::string& text) {
      if (!text.empty()) rest += (rest.empty() ? "" : " ") + text;
    };
    if (options.processes) add(UsersText(row));
    if (options.timers && !row.timer.empty()) add("timer:(" + row.timer + ")");
    if (options.extended) {
      if (row.uid != 0) add(fmt::format("uid:{}", row.uid));
      if (row.inode != 0) add(fmt::format("ino:{}", row.inode));
      add(fmt::format("shard:{}", row.shard));
    }
    fmt::print("{:<10} {:<6} {:<6} {:>{}} {:>{}} {}\n", StateText(row.state), row.recv_queue, row.send_queue,
               places[i].first, local_width, places[i].second, peer_width, rest);
    if (options.memory && !row.memory.empty()) fmt::print("\t {}\n", row.memory);
    if (options.information && !row.information.empty()) fmt::print("\t {}\n", row.information);
  }
}

void PrintJson(const std::vector<SocketRow>& rows) {
  auto document = nlohmann::ordered_json::array();
  for (const SocketRow& row : rows) {
    nlohmann::ordered_json item;
    item["state"] = StateText(row.state);
    item["recv_queue"] = row.recv_queue;
    item["send_queue"] = row.send_queue;
    item["local_address"] = AddressText(row.local.address);
    item["local_port"] = row.local.port;
    item["peer_address"] = AddressText(row.peer.address);
    item["peer_port"] = row.peer.port;
    item["uid"] = row.uid;
    item["inode"] = row.inode;
    item["shard"] = row.shard;
    if (!row.timer.empty()) item["timer"] = row.timer;
    if (!row.information.empty()) item["information"] = row.information;
    if (!row.memory.empty()) item["memory"] = row.memory;
    item["users"] = nlohmann::ordered_json::array();
    for (const SocketUser& user : row.users)
      item["users"].push_back({{"program", user.program}, {"pid", user.pid}, {"fd", user.fd}});
    document.push_back(std::move(item));
  }
  fmt::print("{}\n", document.dump(2));
}

void PrintSummary(const std::vector<SocketRow>& rows, bool json) {
  std::map<std::string, size_t> counts;
  for (TcpState state : kAllStates) counts[StateText(state)] = 0;
  for (const SocketRow& row : rows) ++counts[StateText(row.state)];
  if (json) {
    nlohmann::ordered_json document;
    document["total"] = rows.size();
    for (TcpState state : kAllStates) document[StateText(state)] = counts[StateText(state)];
    fmt::print("{}\n", document.dump(2));
    return;
  }
  fmt::print("Total: {}\n", rows.size());
  for (TcpState state : kAllStates)
    if (size_t n = counts[StateText(state)]; n != 0) fmt::print("{:<10} {}\n", StateText(state), n);
}

const char* ShardStateText(uint32_t state) {
  return state == Shard::kInUse ? "in-use" : state == Shard::kOrphaned ? "orphaned" : "free";
}

void PrintEngine(Host& host, bool json) {
  auto document = nlohmann::ordered_json::array();
  if (!json)
    fmt::print("{:>5} {:<8} {:>7} {:<6} {:>11} {:>11} {:>11} {:>9} {:>11} {:>11} {:>9} {:>12}\n", "Shard", "State",
               "Pid", "Engine", "Frames-In", "Frames-Out", "Enters", "Fr/Enter", "Ring-In", "Ring-Out", "Sleeps",
               "Keeper-Turns");
  for (int i = 0; i < kMaxShards && host.shards[i].random_state != 0; ++i) {
    Shard& shard = host.shards[i];
    DriveStats s = shard.drive_stats;
    if (shard.state.load() == Shard::kFree && s.frames_in + s.frames_out == 0) continue;
    uint64_t ring_frames = s.ring_frames_in + s.ring_frames_out;
    double per_enter = s.ring_enters != 0 ? static_cast<double>(ring_frames) / static_cast<double>(s.ring_enters) : 0;
    const char* engine = s.ring_enters != 0 ? (s.plain_writes + s.plain_reads != 0 ? "mixed" : "uring") : "plain";
    int32_t pid = shard.state.load() == Shard::kInUse ? host.processes[shard.process % kMaxProcesses].pid : 0;
    if (!json) {
      fmt::print("{:>5} {:<8} {:>7} {:<6} {:>11} {:>11} {:>11} {:>9.2f} {:>11} {:>11} {:>9} {:>12}\n", i,
                 ShardStateText(shard.state.load()), pid, engine, s.frames_in, s.frames_out, s.ring_enters, per_enter,
                 s.ring_frames_in, s.ring_frames_out, s.waits, s.keeper_turns);
      continue;
    }
    document.push_back({{"shard", i},
                        {"state", ShardStateText(shard.state.load())},
                        {"pid", pid},
                        {"engine", engine},
                        {"frames_in", s.frames_in},
                        {"frames_out", s.frames_out},
                        {"bytes_in", s.bytes_in},
                        {"bytes_out", s.bytes_out},
                        {"ring_enters", s.ring_enters},
                        {"frames_per_enter", per_enter},
                        {"ring_frames_in", s.ring_frames_in},
                        {"ring_frames_out", s.ring_frames_out},
                        {"plain_reads", s.plain_reads},
                        {"plain_writes", s.plain_writes},
                        {"waits", s.waits},
                        {"turns", shard.turns.load()},
                        {"keeper_turns", s.keeper_turns}});
  }
  if (json) fmt::print("{}\n", document.dump(2));
}

void Check(Host& host) {
  std::vector<std::string> faults = CheckHost(host);
  for (const std::string& fault : faults) fmt::print("{}\n", fault);
  if (!faults.empty()) throw CommandError("the host is not consistent");
}

void Show(const SsOptions& options, const Filter& filter, View& view) {
  if (options.check) return Check(view.host);
  if (options.engine) return PrintEngine(view.host, options.json);
  std::vector<SocketRow> rows = CollectSockets(view, options.information, options.memory);
  if (options.summary) return PrintSummary(rows, options.json);
  std::erase_if(rows, [&](const SocketRow& row) { return !Shown(row, options, filter); });
  if (options.json) return PrintJson(rows);
  PrintTable(rows, options);
}

void Ss(const SsOptions& options) {
  Filter filter = ParseFilter(options.filter);
  // A check takes the shards' locks.
  LookInto(ToolSettings(), options.check ? Access::kWrite : Access::kRead,
           [&](View& view) { Show(options, filter, view); });
}

}  // namespace

void AddSs(CLI::App& app) {
  auto o = std::make_shared<SsOptions>();
  CLI::App* ss = app.add_subcommand("ss", "the host's sockets, as ss(8) shows the kernel's");
  ss->add_flag("-a,--all", o->all, "listening and closing ones too");
  ss->add_flag("-l,--listening", o->listening, "listening ones only");
  ss->add_flag("-o,--options", o->timers, "with timers");
  ss->add_flag("-i,--info", o->information, "with TCP's internals");
  ss->add_flag("-p,--processes", o->processes, "with the processes that have them open");
  ss->add_flag("-m,--memory", o->memory, "with buffer memory");
  ss->add_flag("-e,--extended", o->extended, "with user, inode and shard");
  ss->add_flag("-s,--summary", o->summary, "counts by state");
  ss->add_flag("-4,--ipv4", o->v4, "IPv4 only");
  ss->add_flag("-6,--ipv6", o->v6, "IPv6 only");
  ss->add_flag("-H,--no-header", o->no_header, "without the heading");
  ss->add_flag("-t,--tcp,-n,--numeric", o->accepted, "accepted: all sockets are TCP, all output is numeric");
  ss->add_flag("-j,--json", o->json, "as JSON");
  ss->add_flag("--engine", o->engine, "how frames were moved, by shard");
  ss->add_flag("--check", o->check,
               "whether the host's structures are consistent; exit status 1 and what is wrong otherwise");
  ss->add_option("filter", o->filter, "state NAME, sport = :PORT, dport = :PORT, src ADDRESS, dst ADDRESS");
  ss->callback([o] { Ss(*o); });
}

}  // namespace ustcp::tool
