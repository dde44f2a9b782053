// `ustcp net up|down|show`: the TAP interface and the kernel's addresses on it.
#include <fmt/format.h>
#include <grp.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "io/device/net_admin.h"
#include "tools/commands.h"
#include "tools/net_owner.h"

namespace ustcp::tool {

namespace {

struct NetOptions {
  std::string interface;
  std::string owner;
  std::string group;
  std::string addresses;
  std::string kernel_addresses;
  bool no_keeper = false;
};

void Check(const IoError& error) {
  if (error) throw CommandError(error.message);
}

bool AllDigits(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

uid_t UserNumber(const std::string& name) {
  if (AllDigits(name)) return static_cast<uid_t>(std::stoul(name));
  const passwd* entry = getpwnam(name.c_str());
  if (entry == nullptr) throw CommandError("no user " + name + "; give a name or a number");
  return entry->pw_uid;
}

gid_t GroupNumber(const std::string& name) {
  if (AllDigits(name)) return static_cast<gid_t>(std::stoul(name));
  const group* entry = getgrnam(name.c_str());
  if (entry == nullptr) throw CommandError("no group " + name + "; give a name or a number");
  return entry->gr_gid;
}

std::span<const uint8_t> BytesOf(const IpAddress& address) {
  if (address.is_v4()) return {address.v4(), 4};
  return {address.bytes.data(), 16};
}

// The kernel's side: what was asked for, otherwise the host's gateways with the length of the link's prefix.
std::vector<IpPrefix> KernelAddresses(const NetOptions& options, const Settings& settings) {
  std::vector<IpPrefix> result;
  if (!options.kernel_addresses.empty()) {
    std::string rest = options.kernel_addresses;
    while (!rest.empty()) {
      size_t comma = rest.find(',');
      std::string piece = rest.substr(0, comma);
      rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
      IpPrefix prefix;
      if (!ParsePrefix(piece, &prefix))
        throw CommandError("'" + piece + "' is not address/length; write 10.117.0.1/24");
      result.push_back(prefix);
    }
    return result;
  }
  for (int i = 0; i < settings.host.route_count; ++i) {
    const IpAddress& gateway = settings.host.routes[static_cast<size_t>(i)].gateway;
    for (int j = 0; j < settings.host.address_count; ++j) {
      const IpPrefix& own = settings.host.addresses[static_cast<size_t>(j)];
      if (!own.Contains(gateway)) continue;
      result.push_back({gateway, own.length});
      break;
    }
  }
  return result;
}

Settings SettingsFor(const NetOptions& options) {
  if (!options.interface.empty()) setenv("USTCP_INTERFACE", options.interface.c_str(), 1);
  if (!options.addresses.empty()) setenv("USTCP_ADDR", options.addresses.c_str(), 1);
  return ToolSettings();
}

void WarnOfAnybody(const char* name) {
  TapOwner owner;
  if (ReadTapOwner(name, &owner) && owner.anybody())
    fmt::print(stderr, "ustcp: anybody may use {}; make it anew with `ustcp net down` and `ustcp net up`\n", name);
}

void Up(const NetOptions& options) {
  Settings settings = SettingsFor(options);
  const char* name = settings.host.interface;
  TapCreateOptions create;
  create.name = name;
  create.has_owner = !options.owner.empty();
  if (create.has_owner) create.owner = UserNumber(options.owner);
  create.has_group = !options.group.empty();
  if (create.has_group) create.group = GroupNumber(options.group);
  IoError made = CreateTap(create);
  if (made && made.code != EEXIST) throw CommandError(made.message);
  if (made.code == EEXIST) {
    TapOwner there;
    if (!ReadTapOwner(name, &there))
      throw CommandError(fmt::format("{} is there and no TAP; choose another with --interface", name));
    if ((create.has_owner && !(there.has_user && there.user == create.owner)) ||
        (create.has_group && !(there.has_group && there.group == create.group)))
      throw CommandError(fmt::format("{} is there with another owner or group; run `ustcp net down` first", name));
  }
  if (settings.mtu != 0) Check(SetLinkMtu(name, settings.mtu));
  for (const IpPrefix& address : KernelAddresses(options, settings))
    Check(AddAddress(name, BytesOf(address.address), address.length));
  Check(SetLinkUp(name, true));
  WarnOfAnybody(name);
  if (!create.has_owner || create.owner == 0) return;
  UserAccess access = LookAs(settings, create.owner);
  for (const std::string& line : access.missing) fmt::print(stderr, "ustcp: {}\n", line);
  if (!access.node && !options.no_keeper) StartKeeperOf(settings, create.owner);
}

void Down(const NetOptions& options) {
  Settings settings = SettingsFor(options);
  TapOwner owner;
  ReadTapOwner(settings.host.interface, &owner);
  // First, so that the keeper sees it.
  IoError error = DeleteTap(settings.host.interface);
  if (error && error.code != ENODEV) throw CommandError(error.message);
  EndKeeperOf(settings, owner.has_user ? owner.user : 0);
}

void Show(const NetOptions& options) {
  Settings settings = SettingsFor(options);
  const char* name = settings.host.interface;
  LinkState link;
  Check(ReadLink(name, &link));
  fmt::print("{}: {}{}, mtu {}, mac {:02x}\n", name, link.up ? "up" : "down", link.running ? ", in use" : "", link.mtu,
             fmt::join(link.mac, ":"));
  TapOwner owner;
  if (ReadTapOwner(name, &owner)) {
    if (owner.has_user) fmt::print("  owner {}\n", owner.user);
    if (owner.has_group) fmt::print("  group {}\n", owner.group);
    if (owner.anybody()) fmt::print("  owner: none; anybody may use it\n");
  }
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return;
  for (ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || std::string(at->ifa_name) != name) continue;
    if (at->ifa_addr->sa_family == AF_INET)
      fmt::print("  kernel {}\n",
                 AddressText(IpAddress::FromV4Bytes(&reinterpret_cast<sockaddr_in*>(at->ifa_addr)->sin_addr)));
    if (at->ifa_addr->sa_family == AF_INET6)
      fmt::print("  kernel {}\n",
                 AddressText(IpAddress::FromV6Bytes(&reinterpret_cast<sockaddr_in6*>(at->ifa_addr)->sin6_addr)));
  }
  freeifaddrs(list);
  for (int i = 0; i < settings.host.address_count; ++i) {
    char text[64];
    FormatPrefix(settings.host.addresses[static_cast<size_t>(i)], text);
    fmt::print("  host   {}\n", text);
  }
}

}  // namespace

void AddNet(CLI::App& app) {
  auto options = std::make_shared<NetOptions>();
  CLI::App* net = app.add_subcommand("net", "the TAP interface between the kernel and a host");
  net->require_subcommand(1);
  CLI::App* up = net->add_subcommand("up", "make it, with the kernel's addresses; what is there already stays");
  CLI::App* down = net->add_subcommand("down", "delete it, and end the keeper that `net up` started");
  CLI::App* show = net->add_subcommand("show", "show it");
  for (CLI::App* command : {up, down, show})
    command->add_option("--interface", options->interface, "its name (USTCP_INTERFACE)");
  up->add_option("--owner", options->owner,
                 "user who may use it; with a keeper run by root where that user may not open /dev/net/tun");
  up->add_option("--group", options->group, "group whose members may use it");
  up->add_flag("--no-keeper", options->no_keeper, "make the interface and start no keeper");
  for (CLI::App* command : {up, show})
    command->add_option("--address", options->addresses,
                        "the host's addresses, address/length, comma-separated (USTCP_ADDR)");
  up->add_option("--kernel-address", options->kernel_addresses,
                 "the kernel's, address/length, comma-separated; the host's gateways otherwise");
  up->callback([options] { Up(*options); });
  down->callback([options] { Down(*options); });
  show->callback([options] { Show(*options); });
}

}  // namespace ustcp::tool
