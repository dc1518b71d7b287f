// The windows' counts of one key whose events come in the order of time: differences of running counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/scratch.hpp"
#include "bulk/cells.hpp"

namespace bowerbird {

// Which running counts and window starts a family's windows need. Several windows count the same events, and several
// counts are of one span.
class BulkWindows {
 public:
  // The events of a stream: of these types, where they pass these conditions (-1: always).
  using Stream = std::vector<std::pair<std::size_t, int>>;
  struct Span {
    std::size_t clock;
    std::int64_t reach;
    bool operator==(const Span&) const = default;
  };
  struct Cell {
    std::uint32_t stream;
    std::uint32_t span;
  };

  // Events of a type feed a place.
  void add_feed(std::size_t place, std::size_t type, int condition);
  // Finds what each count of a lookup needs.
  void add_cells(const BulkCells& cells);

  // The streams that an event of a type may belong to, with its conditions.
  std::vector<std::pair<std::size_t, int>> streams_of(std::size_t type) const;
  std::size_t streams() const { return streams_.size(); }
  const std::vector<Span>& spans() const { return spans_; }
  const std::vector<Cell>& cells(std::size_t lookup) const { return cells_[lookup]; }

 private:
  std::vector<std::pair<std::size_t, Stream>> feeds_;  // by place
  std::vector<Stream> streams_;
  std::vector<Span> spans_;
  std::vector<std::vector<Cell>> cells_;
};

}  // namespace bowerbird
