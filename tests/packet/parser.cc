#include <cctype>
#include <cmath>
#include <cstdlib>
#include <sstream>

#include "tests/packet/script.h"

namespace ustcp::packet {
namespace {

// A cursor over one logical line.
class Cursor {
 public:
  Cursor(const std::string& text, int line) : text_(text), line_(line) {}

  void SkipSpace() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  bool AtEnd() {
    SkipSpace();
    return at_ >= text_.size();
  }
  char Peek() {
    SkipSpace();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool Take(const std::string& token) {
    SkipSpace();
    if (text_.compare(at_, token.size(), token) != 0) return false;
    at_ += token.size();
    return true;
  }
  // A word: letters, digits, '_'.
  std::string Word() {
    SkipSpace();
    size_t begin = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0 || text_[at_] == '_'))
      ++at_;
    return text_.substr(begin, at_ - begin);
  }
  std::string NonSpace() {
    SkipSpace();
    size_t begin = at_;
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) == 0) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  std::optional<uint32_t> Number() {
    SkipSpace();
    if (at_ >= text_.size() || std::isdigit(static_cast<unsigned char>(text_[at_])) == 0) return std::nullopt;
    char* end;
    unsigned long v = std::strtoul(text_.c_str() + at_, &end, 10);
    at_ = static_cast<size_t>(end - text_.c_str());
    return static_cast<uint32_t>(v);
  }
  std::optional<int64_t> Seconds() {
    SkipSpace();
    size_t begin = at_;
    while (at_ < text_.size() && (std::isdigit(static_cast<unsigned char>(text_[at_])) != 0 || text_[at_] == '.')) {
      if (text_.compare(at_, 3, "...") == 0) break;
      ++at_;
    }
    if (at_ == begin) return std::nullopt;
    return std::llround(std::strtod(text_.substr(begin, at_ - begin).c_str(), nullptr) * 1e9);
  }
  std::string Until(char stop) {
    size_t end = text_.find(stop, at_);
    std::string out = text_.substr(at_, end == std::string::npos ? end : end - at_);
    at_ = end == std::string::npos ? text_.size() : end + 1;
    return out;
  }
  std::string Rest() {
    SkipSpace();
    return text_.substr(at_);
  }
  int line() const { return line_; }

 private:
  const std::string& text_;
  size_t at_ = 0;
  int line_;
};

struct ParseFailure {
  std::string what;
};

[[noreturn]] void Fail(const std::string& what) { throw ParseFailure{what}; }

When ParseWhen(Cursor& c) {
  When w;
  if (c.Take("*")) {
    w.kind = When::kAny;
    return w;
  }
  w.kind = c.Take("+") ? When::kAfter : When::kAt;
  auto from = c.Seconds();
  if (!from) Fail("a time was expected: +0.1, 2.5, *");
  w.from = w.to = *from;
  if (c.Take("...")) {
    bool relative = c.Take("+");
    auto to = c.Seconds();
    if (!to) Fail("the end of a blocking call was expected after ...");
    w.to = relative && w.kind == When::kAt ? w.from + *to : *to;
    w.blocking = true;
  } else if (c.Take("~")) {
    c.Take("+");
    auto to = c.Seconds();
    if (!to) Fail("the end of a range was expected after ~");
    w.to = *to;
  }
  return w;
}

uint32_t Need(std::optional<uint32_t> n, const char* what) {
  if (!n) Fail(std::string(what) + " was expected");
  return *n;
}

PacketOptions ParseOptions(const std::string& text) {
  PacketOptions o;
  o.text.clear();
  if (text == "...") {
    o.any = true;
    return o;
  }
  std::stringstream in(text);
  for (std::string item; std::getline(in, item, ',');) {
    Cursor c(item, 0);
    std::string name = c.Word();
    if (!o.text.empty()) o.text += ',';
    o.text += name;
    if (name == "mss") {
      o.mss = static_cast<uint16_t>(Need(c.Number(), "the MSS"));
    } else if (name == "wscale") {
      o.wscale = static_cast<uint8_t>(Need(c.Number(), "the window scale"));
    } else if (name == "sackOK") {
      o.sack_ok = true;
    } else if (name == "TS") {
      if (!c.Take("val")) Fail("TS val N ecr M was expected");
      if (auto val = c.Number()) o.ts_val = val;
      if (!c.Take("ecr")) Fail("TS val N ecr M was expected");
      if (auto ecr = c.Number()) o.ts_ecr = ecr;
      o.ts_any = true;
    } else if (name == "sack") {
      while (auto begin = c.Number()) {
        if (!c.Take(":")) Fail("a SACK block was expected: 1:1001");
        o.sacks.push_back({*begin, Need(c.Number(), "the end of a SACK block")});
      }
    } else if (name == "raw") {
      std::string hex = c.Word();
      for (size_t i = 0; i + 1 < hex.size(); i += 2)
        o.raw.push_back(static_cast<std::byte>(std::strtoul(hex.substr(i, 2).c_str(), nullptr, 16)));
    } else if (name != "nop" && name != "eol") {
      Fail("unknown TCP option " + name);
    }
  }
  return o;
}

void ParseIcmp(Cursor& c, PacketSpec& p) {
  p.icmp = true;
  p.icmp_type = c.Word();
  p.icmp_code = c.Word();
  if (c.Take("mtu")) p.icmp_mtu = Need(c.Number(), "the MTU");
  if (!c.Take("[")) Fail("the quoted segment was expected: [1:1001(1000)]");
  p.seq = Need(c.Number(), "a sequence number");
  if (!c.Take(":")) Fail("seq:end(length) was expected");
  p.end = Need(c.Number(), "a sequence number");
  if (!c.Take("(")) Fail("seq:end(length) was expected");
  p.length = Need(c.Number(), "a length");
  if (!c.Take(")") || !c.Take("]")) Fail("] was expected");
}

PacketSpec ParsePacket(Cursor& c, bool inbound) {
  PacketSpec p;
  p.inbound = inbound;
  for (bool more = true; more;) {
    more = false;
    if (c.Take("[port")) {
      p.port = static_cast<uint16_t>(Need(c.Number(), "a port"));
      if (!c.Take("]")) Fail("] was expected");
      more = true;
    } else if (c.Take("[doff")) {
      p.data_offset = static_cast<int>(Need(c.Number(), "a header length in words"));
      if (!c.Take("]")) Fail("] was expected");
      more = true;
    } else if (c.Take("[badsum]")) {
      p.bad_checksum = more = true;
    } else if (c.Take("[noecn]")) {
      p.ecn = 0, more = true;
    } else if (c.Take("[ect1]")) {
      p.ecn = 1, more = true;
    } else if (c.Take("[ect0]")) {
      p.ecn = 2, more = true;
    } else if (c.Take("[ce]")) {
      p.ecn = 3, more = true;
    }
  }
  if (c.Take("icmp")) {
    ParseIcmp(c, p);
    return p;
  }
  for (char f : c.NonSpace()) {
    if (f == '-') continue;  // no flag at all
    if (f == '.') f = 'A';
    if (std::string("FSRPUEWA").find(f) == std::string::npos) Fail(std::string("unknown flag ") + f);
    p.flags += f;
  }
  p.seq = Need(c.Number(), "a sequence number");
  if (!c.Take(":")) Fail("seq:end(length) was expected");
  p.end = Need(c.Number(), "a sequence number");
  if (!c.Take("(")) Fail("seq:end(length) was expected");
  p.length = Need(c.Number(), "a length");
  if (!c.Take(")")) Fail(") was expected");
  if (p.end != p.seq + p.length) Fail("end is not seq + length");
  if (c.Take("ack")) p.ack = Need(c.Number(), "an acknowledgement number");
  if (c.Take("win")) p.window = static_cast<uint16_t>(Need(c.Number(), "a window"));
  if (c.Take("urg")) p.urgent = static_cast<uint16_t>(Need(c.Number(), "an urgent pointer"));
  if (c.Take("<")) p.options = ParseOptions(c.Until('>'));
  if (!c.AtEnd()) Fail("cannot read the rest: " + c.Rest());
  bool wants_ack = p.flags.find('A') != std::string::npos;
  if (wants_ack != p.ack.has_value()) Fail(wants_ack ? "'.' needs ack N" : "ack N needs '.'");
  return p;
}

// Splits at commas outside of brackets.
std::vector<std::string> SplitArguments(const std::string& text) {
  std::vector<std::string> out;
  int depth = 0;
  std::string current;
  for (char ch : text) {
    if (ch == '(' || ch == '[' || ch == '{') ++depth;
    if (ch == ')' || ch == ']' || ch == '}') --depth;
    if (ch == ',' && depth == 0) {
      out.push_back(current);
      current.clear();
    } else if (!(current.empty() && ch == ' ')) {
      current += ch;
    }
  }
  while (!current.empty() && current.back() == ' ') current.pop_back();
  if (!current.empty() || !out.empty()) out.push_back(current);
  return out;
}

CallSpec ParseCall(Cursor& c) {
  CallSpec call;
  call.name = c.Word();
  std::string rest = c.Rest();
  if (call.name.empty() || rest.empty() || rest[0] != '(') Fail("a call was expected: name(arguments) = result");
  int depth = 0;
  size_t close = 0;
  for (size_t i = 0; i < rest.size(); ++i) {
    if (rest[i] == '(') ++depth;
    if (rest[i] == ')' && --depth == 0) {
      close = i;
      break;
    }
  }
  if (close == 0) Fail("the call's ) is missing");
  call.arguments = SplitArguments(rest.substr(1, close - 1));
  std::string after = rest.substr(close + 1);
  Cursor r(after, c.line());
  if (!r.Take("=")) Fail("= result was expected after the call");
  call.result = r.NonSpace();
  std::string error = r.Word();
  if (!error.empty() && error[0] == 'E') call.error = error;
  return call;
}

Event ParseEvent(const std::string& text, int line) {
  Event e;
  e.line = line;
  Cursor c(text, line);
  e.when = ParseWhen(c);
  if (c.Take("%{")) {
    e.kind = Event::kAssert;
    std::string code = c.Rest();
    size_t end = code.find("}%");
    if (end == std::string::npos) Fail("}% is missing");
    e.code = code.substr(0, end);
    return e;
  }
  if (c.Take("`")) {
    e.kind = Event::kSysctl;
    e.code = c.Until('`');
    return e;
  }
  char first = c.Peek();
  if (first == '<' || first == '>') {
    c.Take(std::string(1, first));
    e.kind = Event::kPacket;
    e.packet = ParsePacket(c, first == '<');
    return e;
  }
  e.kind = Event::kCall;
  e.call = ParseCall(c);
  return e;
}

// `sysctl -q net.ipv4.a=1 net.ipv4.b="1 2 3"`, several commands separated by ';' or newlines.
void ParseSysctls(const std::string& text, std::vector<std::pair<std::string, std::string>>* out) {
  size_t at = 0;
  while (at < text.size()) {
    size_t eq = text.find('=', at);
    if (eq == std::string::npos) return;
    size_t begin = text.find_last_of(" \t\n;", eq);
    begin = begin == std::string::npos ? 0 : begin + 1;
    std::string name = text.substr(begin, eq - begin);
    std::string value;
    size_t v = eq + 1;
    if (v < text.size() && text[v] == '"') {
      size_t close = text.find('"', v + 1);
      if (close == std::string::npos) Fail("closing quote is missing");
      value = text.substr(v + 1, close - v - 1);
      at = close + 1;
    } else {
      size_t end = text.find_first_of(" \t\n;", v);
      if (end == std::string::npos) end = text.size();
      value = text.substr(v, end - v);
      at = end;
    }
    out->push_back({name, value});
  }
}

// Takes comments out, keeping line numbers. Returns the first comment as the title.
std::string StripComments(const std::string& text, std::string* title) {
  std::string out;
  bool have_title = false;
  for (size_t i = 0; i < text.size();) {
    bool line_comment = text.compare(i, 2, "//") == 0;
    bool block_comment = text.compare(i, 2, "/*") == 0;
    if (!line_comment && !block_comment) {
      out += text[i++];
      continue;
    }
    size_t end = line_comment ? text.find('\n', i) : text.find("*/", i);
    if (end == std::string::npos) end = text.size();
    if (!have_title) {
      *title = text.substr(i + 2, end - i - 2);
      while (!title->empty() && title->front() == ' ') title->erase(0, 1);
      have_title = true;
    }
    for (size_t j = i; j < end; ++j)
      if (text[j] == '\n') out += '\n';
    i = line_comment ? end : std::min(end + 2, text.size());
  }
  return out;
}

}  // namespace

std::optional<Script> ParseScript(const std::string& path, const std::string& text, std::string* error) {
  Script script;
  script.path = path;
  std::string clean = StripComments(text, &script.title);
  std::stringstream in(clean);
  int line = 0;
  std::string pending;
  int pending_line = 0;
  auto open = [](const std::string& s) {  // does the text go on in the next line?
    int depth = 0;
    size_t ticks = 0;
    for (char ch : s) {
      if (ch == '(' || ch == '[' || ch == '{') ++depth;
      if (ch == ')' || ch == ']' || ch == '}') --depth;
      if (ch == '`') ++ticks;
    }
    return depth > 0 || ticks % 2 == 1;
  };
  try {
    for (std::string raw; std::getline(in, raw);) {
      ++line;
      if (pending.empty()) pending_line = line;
      pending += pending.empty() ? raw : "\n" + raw;
      if (open(pending)) continue;
      size_t begin = pending.find_first_not_of(" \t\r\n");
      std::string logical = begin == std::string::npos ? "" : pending.substr(begin);
      pending.clear();
      if (logical.empty()) continue;
      if (logical.compare(0, 2, "--") == 0) {
        std::stringstream words(logical);
        for (std::string w; words >> w;) script.options.push_back(w);
      } else if (logical[0] == '`') {
        ParseSysctls(logical.substr(1, logical.rfind('`') - 1), &script.sysctls);
      } else {
        for (char& ch : logical)
          if (ch == '\n') ch = ' ';
        script.events.push_back(ParseEvent(logical, pending_line));
      }
    }
    if (!pending.empty() && pending.find_first_not_of(" \t\r\n") != std::string::npos) Fail("unfinished line");
  } catch (const ParseFailure& f) {
    *error = "line " + std::to_string(pending_line) + ": " + f.what;
    return std::nullopt;
  }
  return script;
}

}  // namespace ustcp::packet
