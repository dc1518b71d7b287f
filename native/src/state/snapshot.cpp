// Snapshots: every key's state in a file, shard by shard, each at its own log position, while the writer goes on.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <system_error>

#include "state/state.hpp"

namespace bowerbird {
namespace {

constexpr std::uint64_t kSnapshotMagic = 0x3230504E53424242ULL;  // "BBBSNP02"
constexpr std::uint64_t kSnapshotEnd = 0x444E45504E534242ULL;

struct FileHeader {
  std::uint64_t magic;
  std::uint64_t plan_bytes;
  std::uint64_t sections;
  std::int64_t table_lsn;
  std::uint64_t own_checksum;  // of what stands above
};

struct SectionHeader {
  std::uint32_t table;  // 1 for a table's shard, 0 for a family's
  std::uint32_t index;
  std::uint32_t shard;
  std::uint32_t unused;
  std::int64_t lsn;
  std::uint64_t keys;
  std::uint64_t bytes;
  std::uint64_t checksum;      // of the keys
  std::uint64_t own_checksum;  // of what stands above
};

struct KeyHeader {
  std::uint64_t key;
  std::uint64_t units;
};

std::uint64_t checksum(const void* data, std::size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  std::uint64_t state = mix(bytes);
  std::size_t at = 0;
  for (; at + 8 <= bytes; at += 8) state = mix(state ^ load<std::uint64_t>(from + at));
  for (; at < bytes; ++at) state = mix(state ^ static_cast<std::uint64_t>(from[at]));
  return state;
}

template <typename Header>
std::uint64_t own_checksum(const Header& header) {
  return checksum(&header, offsetof(Header, own_checksum));
}

class File {
 public:
  explicit File(const std::string& path) : path_(path), descriptor_(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) {
    if (descriptor_ < 0) fail();
  }
  ~File() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  void write(const void* data, std::size_t bytes) {
    const auto* at = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t written = ::write(descriptor_, at, bytes);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail();
      at += written;
      bytes -= static_cast<std::size_t>(written);
    }
  }
  void sync() {
    if (fsync(descriptor_) != 0) fail();
  }

 private:
  [[noreturn]] void fail() const { throw std::system_error(errno, std::generic_category(), "writing " + path_); }

  std::string path_;
  int descriptor_;
};

// The keys of one shard as they are at a position.
void dump_shard(const Keys& keys, std::size_t shard, std::int64_t lsn, SectionHeader& header, std::vector<std::byte>& out) {
  const TableView table = keys.view(shard);
  for (std::uint64_t at = 0; !table.empty() && at <= table.mask(); ++at) {
    const Entry& entry = table.entries()[at];
    const std::uint64_t key = entry.key.load(std::memory_order_acquire);
    if (key == kMissingKey) continue;
    const std::byte* block = keys.resolve(entry.block.load(std::memory_order_acquire), lsn);
    if (block == nullptr) continue;
    const auto* held = reinterpret_cast<const BlockHeader*>(block);
    const KeyHeader head{key, held->units};
    const std::size_t size = std::size_t{held->units} * Arena::kUnit;
    const std::size_t start = out.size();
    out.resize(start + sizeof(head) + size);
    std::memcpy(out.data() + start, &head, sizeof(head));
    std::memcpy(out.data() + start + sizeof(head), block, size);
    ++header.keys;
  }
  header.lsn = lsn;
  header.bytes = out.size();
  header.checksum = checksum(out.data(), out.size());
  header.own_checksum = own_checksum(header);
}

class SnapshotReader {
 public:
  explicit SnapshotReader(const std::string& path) : path_(path), stream_(path, std::ios::binary) {
    if (!stream_) throw std::system_error(errno, std::generic_category(), "opening " + path);
    stream_.seekg(0, std::ios::end);
    size_ = static_cast<std::uint64_t>(stream_.tellg());
    stream_.seekg(0);
  }
  std::uint64_t size() const { return size_; }
  void read(void* to, std::size_t bytes) {
    if (!stream_.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes))) damaged("is cut short");
  }
  template <typename Header>
  Header header() {
    Header header{};
    read(&header, sizeof(header));
    if (own_checksum(header) != header.own_checksum) damaged("is damaged");
    return header;
  }
  [[noreturn]] void damaged(const std::string& how) const { throw std::invalid_argument(path_ + " " + how); }

 private:
  std::string path_;
  std::ifstream stream_;
  std::uint64_t size_ = 0;
};

}  // namespace

// Tables come first and all at one position, families later: a replay from there finds every attribute as it was.
void State::snapshot(const std::string& path) const {
  if (workers_ == nullptr) throw std::runtime_error("only the writer of a state takes snapshots of it");
  std::shared_lock<std::shared_mutex> lock(mutex_, std::defer_lock);
  if (!options_.versioned) lock.lock();
  File file(path);
  std::size_t sections = families_.size() * kShards;
  for (const auto& shards : table_shards_) sections += shards.size();
  std::vector<std::byte> out;
  const auto write_section = [&](const Keys& keys, SectionHeader header, std::int64_t lsn) {
    out.clear();
    dump_shard(keys, header.shard, lsn, header, out);
    file.write(&header, sizeof(header));
    file.write(out.data(), out.size());
  };
  {
    const ReadGuard guard(*control_);
    FileHeader header{kSnapshotMagic, options_.plan_json.size(), sections, guard.lsn(), 0};
    header.own_checksum = own_checksum(header);
    file.write(&header, sizeof(header));
    file.write(options_.plan_json.data(), options_.plan_json.size());
    for (std::size_t type = 0; type < tables_.size(); ++type) {
      for (std::size_t shard = 0; shard < table_shards_[type].size(); ++shard) {
        write_section(tables_[type].keys, {1, static_cast<std::uint32_t>(type), static_cast<std::uint32_t>(shard), 0, 0, 0, 0, 0, 0}, guard.lsn());
      }
    }
  }
  for (std::size_t family = 0; family < families_.size(); ++family) {
    for (std::size_t shard = 0; shard < kShards; ++shard) {
      const ReadGuard guard(*control_);
      write_section(families_[family]->keys, {0, static_cast<std::uint32_t>(family), static_cast<std::uint32_t>(shard), 0, 0, 0, 0, 0, 0}, guard.lsn());
    }
  }
  file.write(&kSnapshotEnd, sizeof(kSnapshotEnd));
  file.sync();
}

void State::restore(const std::string& path) {
  SnapshotReader file(path);
  const auto header = file.header<FileHeader>();
  if (header.magic != kSnapshotMagic) file.damaged("is not a snapshot");
  std::string json(std::min<std::uint64_t>(header.plan_bytes, options_.plan_json.size() + 1), '\0');
  file.read(json.data(), json.size());
  if (json != options_.plan_json) file.damaged("holds another plan's state");
  std::vector<std::byte> data;
  std::int64_t furthest = header.table_lsn;
  for (std::uint64_t i = 0; i < header.sections; ++i) {
    const auto section = file.header<SectionHeader>();
    const std::size_t most = section.table ? table_shards_.size() : families_.size();
    if (section.index >= most || section.shard >= kShards || section.bytes > file.size()) file.damaged("is damaged");
    data.resize(section.bytes);
    file.read(data.data(), data.size());
    if (checksum(data.data(), data.size()) != section.checksum) file.damaged("is damaged");
    if (section.table != 0 && section.shard >= table_shards_[section.index].size()) file.damaged("is damaged");
    Shard& shard = section.table ? table_shards_[section.index][section.shard] : families_[section.index]->shards[section.shard];
    shard.reserve(section.keys);
    shard.from_lsn = section.lsn;
    furthest = std::max(furthest, section.lsn);
    for (std::size_t at = 0; at < data.size();) {
      const auto key = load<KeyHeader>(data.data() + at);
      const std::size_t size = key.units * Arena::kUnit;
      at += sizeof(KeyHeader);
      if (at + size > data.size()) file.damaged("is damaged");
      auto units = static_cast<std::uint32_t>(key.units);
      Entry* entry = shard.find_or_insert(key.key, mix(key.key), 0);
      const std::uint32_t block = entry == nullptr ? 0 : shard.blocks().take(units);
      if (block == 0) throw std::runtime_error("feature state needs more than its " + std::to_string(arena_->capacity()) + " bytes");
      std::memcpy(arena_->at(block), data.data() + at, size);
      BlockHeader* held = shard.blocks().header(block);
      held->version = 0;
      held->previous = 0;
      held->units = units;
      shard.put(*entry, block, 0);
      at += size;
    }
  }
  std::uint64_t end = 0;
  file.read(&end, sizeof(end));
  if (end != kSnapshotEnd) file.damaged("is cut short");
  lsn_ = table_lsn_ = header.table_lsn;
  restored_to_ = furthest;
  control_->published.store(lsn_, std::memory_order_release);
}

}  // namespace bowerbird
