#include "table/file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

#include "base/keys.hpp"

namespace bowerbird::embedding {
namespace {

constexpr std::uint64_t kMagic = 0x31304C4254424242ULL;  // "BBBTBL01"
constexpr std::uint64_t kPage = 4096;
static_assert(sizeof(TableFileHeader) <= kPage);

std::uint64_t own_checksum(const TableFileHeader& header) {
  Checksum sum;
  sum.add(&header, offsetof(TableFileHeader, own_checksum));
  return sum.value();
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// One name, as bowerbird/durable.py has it: what a killed process left is written over and not kept.
std::string unfinished_name(const std::string& path) { return folder_of(path) + "/.writing-" + path.substr(path.rfind('/') + 1); }

}  // namespace

void Checksum::fold(const std::byte* block) {
  for (std::size_t i = 0; i < kLanes; ++i) {
    std::uint64_t word;
    std::memcpy(&word, block + 8 * i, 8);
    const std::uint64_t mixed = (lanes_[i] ^ word) * 0x9E3779B97F4A7C15ULL;
    lanes_[i] = mixed ^ (mixed >> 29);
  }
}

void Checksum::add(const void* data, std::size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  bytes_ += bytes;
  if (held_ > 0) {
    const std::size_t more = std::min(bytes, rest_.size() - held_);
    std::memcpy(rest_.data() + held_, from, more);
    held_ += more;
    from += more;
    bytes -= more;
    if (held_ < rest_.size()) return;
    fold(rest_.data());
    held_ = 0;
  }
  for (; bytes >= rest_.size(); bytes -= rest_.size(), from += rest_.size()) fold(from);
  if (bytes > 0) std::memcpy(rest_.data(), from, bytes);
  held_ = bytes;
}

std::uint64_t Checksum::value() const {
  Checksum last = *this;
  std::fill(last.rest_.begin() + static_cast<std::ptrdiff_t>(held_), last.rest_.end(), std::byte{0});
  last.fold(last.rest_.data());
  std::uint64_t sum = mix(bytes_);
  for (const std::uint64_t lane : last.lanes_) sum = mix(sum ^ lane);
  return sum;
}

TableFileWriter::TableFileWriter(const std::string& path)
    : path_(path), partial_(unfinished_name(path)), offset_(kPage) {
  descriptor_ = open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail("creating");
}

TableFileWriter::~TableFileWriter() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!finished_) unlink(partial_.c_str());
}

void TableFileWriter::fail(const std::string& what) const { throw std::system_error(errno, std::generic_category(), what + " " + path_); }

void TableFileWriter::put(const void* data, std::size_t bytes, std::uint64_t offset) {
  const auto* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = pwrite(descriptor_, at, std::min<std::size_t>(bytes, std::size_t{1} << 26), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("writing");
    at += written;
    offset += static_cast<std::uint64_t>(written);
    bytes -= static_cast<std::size_t>(written);
  }
}

void TableFileWriter::begin(Section which) {
  offset_ = (offset_ + kPage - 1) / kPage * kPage;
  place_ = &places_[static_cast<std::size_t>(which)];
  *place_ = {offset_, 0, 0};
  checksum_ = {};
}

void TableFileWriter::write(const void* data, std::size_t bytes) {
  checksum_.add(data, bytes);
  put(data, bytes, offset_);
  offset_ += bytes;
  place_->bytes += bytes;
}

void TableFileWriter::end() { place_->checksum = checksum_.value(); }

void TableFileWriter::finish(TableFileHeader header) {
  header.magic = kMagic;
  header.file_bytes = kPage;
  for (const SectionPlace& place : places_) {
    if (place.bytes > 0) header.file_bytes = std::max(header.file_bytes, place.offset + place.bytes);
  }
  header.sections = places_;
  header.own_checksum = own_checksum(header);
  std::array<std::byte, kPage> page{};
  std::memcpy(page.data(), &header, sizeof(header));
  put(page.data(), page.size(), 0);
  if (fsync(descriptor_) != 0) fail("making durable");
  if (rename(partial_.c_str(), path_.c_str()) != 0) fail("naming");
  finished_ = true;
  const int folder = open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) fail("making durable the folder of");
  const int synced = fsync(folder);
  close(folder);
  if (synced != 0) fail("making durable the folder of");
}

TableFile::TableFile(const std::string& path, bool verify) : path_(path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw std::system_error(errno, std::generic_category(), "opening " + path);
  struct stat status {};
  void* mapped = MAP_FAILED;
  if (fstat(descriptor, &status) == 0 && status.st_size >= static_cast<off_t>(kPage)) {
    size_ = static_cast<std::uint64_t>(status.st_size);
    mapped = mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor, 0);
  }
  const int error = errno;
  close(descriptor);
  if (size_ == 0) damaged("is cut short");
  if (mapped == MAP_FAILED) throw std::system_error(error, std::generic_category(), "mapping " + path);
  data_ = static_cast<std::byte*>(mapped);
  try {
    check(verify);
  } catch (...) {
    munmap(data_, size_);
    throw;
  }
}

TableFile::~TableFile() { munmap(data_, size_); }

void TableFile::check(bool verify) {
  std::memcpy(&header_, data_, sizeof(header_));
  if (header_.magic != kMagic) damaged("is not a table's file");
  if (own_checksum(header_) != header_.own_checksum) damaged("has a damaged header");
  if (size_ < header_.file_bytes) damaged("is cut short");
  check_sections(verify);
}

void TableFile::check_sections(bool all) const {
  for (const SectionPlace& place : header_.sections) {
    if (place.bytes == 0) continue;
    if (place.offset % kPage != 0 || place.offset > size_ || place.bytes > size_ - place.offset) damaged("is cut short");
    if (!all && &place != &header_.section(Section::kConfig)) continue;
    Checksum sum;
    sum.add(data_ + place.offset, place.bytes);
    if (sum.value() != place.checksum) damaged("is damaged");
  }
}

void TableFile::expect(Section which, std::uint64_t bytes) const {
  if (header_.section(which).bytes != bytes) damaged("is damaged: a section has another size than its header says");
}

void TableFile::damaged(const std::string& how) const { throw DamagedFile(path_ + " " + how); }

}  // namespace bowerbird::embedding
