// The files of tables: a header of one page, then sections that begin at pages, each with its checksum. A file appears whole, under
// its name, or not at all.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "table/config.hpp"

namespace bowerbird::embedding {

enum class FileKind : std::uint32_t { kSnapshot = 1, kDelta = 2, kServed = 3 };

enum class Section : std::size_t { kConfig = 0, kShards, kUnits, kKeys, kWeights, kStates, kFree, kFilter, kRemoved };
inline constexpr std::size_t kSections = 9;

struct SectionPlace {
  std::uint64_t offset;
  std::uint64_t bytes;
  std::uint64_t checksum;
};

struct TableFileHeader {
  std::uint64_t magic;
  FileKind kind;
  Precision precision;
  std::uint64_t version;
  std::uint64_t version_id;
  std::uint64_t base;  // of a delta: the version and its id that it goes on from
  std::uint64_t base_id;
  std::uint64_t dimension;
  std::uint64_t state_bytes;
  std::uint64_t rows;
  std::uint64_t keys;
  std::uint64_t salt;
  std::uint64_t steps;
  std::uint64_t calls;
  std::uint64_t admitted;
  std::uint64_t refused;
  std::uint64_t expired;
  std::uint64_t evicted;
  std::uint64_t file_bytes;
  std::array<SectionPlace, kSections> sections;
  std::uint64_t own_checksum;  // of what stands above

  const SectionPlace& section(Section which) const { return sections[static_cast<std::size_t>(which)]; }
};

// A checksum of bytes that come in pieces.
class Checksum {
 public:
  void add(const void* data, std::size_t bytes);
  std::uint64_t value() const;

 private:
  static constexpr std::size_t kLanes = 8;
  void fold(const std::byte* block);

  std::array<std::uint64_t, kLanes> lanes_{};
  std::array<std::byte, 64> rest_{};
  std::size_t held_ = 0;
  std::uint64_t bytes_ = 0;
};

// Writes beside the name that the file is to have; without finish() nothing remains.
class TableFileWriter {
 public:
  explicit TableFileWriter(const std::string& path);
  ~TableFileWriter();
  TableFileWriter(const TableFileWriter&) = delete;
  TableFileWriter& operator=(const TableFileWriter&) = delete;

  void begin(Section which);
  void write(const void* data, std::size_t bytes);
  void end();
  // Completes the header, makes the file durable and gives it its name.
  void finish(TableFileHeader header);

 private:
  [[noreturn]] void fail(const std::string& what) const;
  void put(const void* data, std::size_t bytes, std::uint64_t offset);

  std::string path_;
  std::string partial_;
  int descriptor_;
  bool finished_ = false;
  std::uint64_t offset_;
  Checksum checksum_;
  SectionPlace* place_ = nullptr;
  std::array<SectionPlace, kSections> places_{};
};

// A file of a table mapped for reading; throws DamagedFile where it is not what was written.
class TableFile {
 public:
  // With `verify` every section is read and its checksum compared, or else the configuration's alone.
  TableFile(const std::string& path, bool verify);
  ~TableFile();
  TableFile(const TableFile&) = delete;
  TableFile& operator=(const TableFile&) = delete;

  const TableFileHeader& header() const { return header_; }
  const std::string& path() const { return path_; }
  const std::byte* data(Section which) const { return data_ + header_.section(which).offset; }
  std::uint64_t bytes(Section which) const { return header_.section(which).bytes; }
  std::string config() const { return {reinterpret_cast<const char*>(data(Section::kConfig)), bytes(Section::kConfig)}; }
  // Throws unless a section has exactly so many bytes.
  void expect(Section which, std::uint64_t bytes) const;
  [[noreturn]] void damaged(const std::string& how) const;
  // Reads every section and compares its checksum.
  void verify() const { check_sections(true); }

 private:
  void check(bool verify);
  void check_sections(bool all) const;

  std::string path_;
  std::byte* data_ = nullptr;
  std::uint64_t size_ = 0;
  TableFileHeader header_{};
};

}  // namespace bowerbird::embedding
