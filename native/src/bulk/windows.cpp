#include "bulk/windows.hpp"

#include <algorithm>

namespace bowerbird {
namespace {

template <typename Item>
std::size_t place_in(std::vector<Item>& all, const Item& one) {
  const auto found = std::find(all.begin(), all.end(), one);
  if (found != all.end()) return static_cast<std::size_t>(found - all.begin());
  all.push_back(one);
  return all.size() - 1;
}

}  // namespace

void BulkWindows::add_feed(std::size_t place, std::size_t type, int condition) {
  auto found = std::find_if(feeds_.begin(), feeds_.end(), [&](const auto& each) { return each.first == place; });
  if (found == feeds_.end()) found = feeds_.insert(found, {place, {}});
  found->second.emplace_back(type, condition);
}

void BulkWindows::add_cells(const BulkCells& cells) {
  std::vector<Cell>& own = cells_.emplace_back();
  for (const BulkCells::Count& count : cells.counts()) {
    Stream stream;
    for (const auto& [place, feeds] : feeds_) {
      if (place == count.place) stream = feeds;
    }
    own.push_back({static_cast<std::uint32_t>(place_in(streams_, stream)), static_cast<std::uint32_t>(place_in(spans_, Span{count.clock, count.reach}))});
  }
}

std::vector<std::pair<std::size_t, int>> BulkWindows::streams_of(std::size_t type) const {
  std::vector<std::pair<std::size_t, int>> found;
  for (std::size_t stream = 0; stream < streams_.size(); ++stream) {
    for (const auto& [fed, condition] : streams_[stream]) {
      if (fed == type) found.emplace_back(stream, condition);
    }
  }
  return found;
}

}  // namespace bowerbird
