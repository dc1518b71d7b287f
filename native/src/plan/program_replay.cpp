// Reading features in a replay, between the records of a batch.
#include "plan/program.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "plan/program_values.hpp"

namespace bowerbird {

class Program::Replay : public State::Replayer, public ReadSink {
 public:
  Replay(const Program& program, const Reads& reads) : program_(program), reads_(reads), out_(program.columns(program.whole_, reads.count)) {
    for (const Locate& locate : program.locates_) {
      LocatedReads located;
      located.family = locate.family;
      located_.push_back(std::move(located));
    }
  }

  const std::vector<LocatedReads>& locate(std::size_t first, std::size_t last, std::size_t lanes) override {
    const std::size_t count = last - first;
    program_.allocate(values_, count);
    values_.times = reads_.times + first;
    program_.whole_.paths.evaluate({reads_.slots, reads_.count, nullptr, first, count}, kIdle, space_);
    for (const auto& [node, value] : program_.whole_.values) {
      std::copy_n(&space_.values[static_cast<std::size_t>(value) * count], count, values_.columns[static_cast<std::size_t>(node)]);
    }
    for (const int node : program_.whole_.before) program_.compute(node, values_);
    for (std::size_t i = 0; i < located_.size(); ++i) {
      located_[i].keys.resize(count);
      for (std::size_t row = 0; row < count; ++row) located_[i].keys[row] = program_.key(program_.locates_[i], values_, row);
    }
    open(lanes);
    return located_;
  }

  ReadSink& sink() override { return *this; }

  void read(std::size_t lane, std::size_t locate, std::uint32_t row, const std::byte* block) override {
    Lane& own = lanes_[lane * located_.size() + locate];
    const std::int64_t time = values_.times[row];
    for (TileClock& clock : own.clocks) clock.move_to(time);
    own.rows.push_back(row);
    for (const CountRead& read : own.counts) {
      const std::byte* state = block == nullptr ? nullptr : read.place->find(block);
      const std::int64_t count = state == nullptr ? 0 : Tiles::count(state, read.reach, own.clocks[read.clock].index);
      read.column[row] = bits(static_cast<double>(count));
    }
    std::size_t sequence = 0;
    for (const BlockRead* read : own.others) {
      for (const std::size_t feature : read->features) {
        program_.emit_sequence(*read, program_.plan_.features[program_.whole_.sequences[feature]], block, time, own.sequences[sequence++]);
      }
      if (read->operation == Operation::kSequence || read->operation == Operation::kTop) continue;
      values_.columns[static_cast<std::size_t>(read->node)][row] = program_.read_block(
          *read, block, time, own.clocks[read->clock].index, read->wanted < 0 ? 0 : values_.at(read->wanted, row));
    }
  }

  void finish(std::size_t first, std::size_t last) override {
    if (part_ != nullptr) return keep_part(first, last);
    for (const int node : program_.whole_.after) program_.compute(node, values_);
    program_.emit(program_.whole_, values_, space_, first, last - first, out_);
    join_sequences(last - first);
  }

  Columns columns() { return std::move(out_); }

  void collect_part(PartColumns& part) {
    part_ = &part;
    part.rows = reads_.count;
    part.values.resize(program_.plan_.nodes.size() * reads_.count);
    part.owned.resize(located_.size());
    for (std::size_t i = 0; i < located_.size(); ++i) {
      std::vector<int>& nodes = part.nodes.emplace_back();
      for (const BlockRead& read : program_.locates_[i].reads) {
        nodes.push_back(read.node);
        for (const std::size_t feature : read.features) {
          part.sequences.emplace_back(feature, ragged_like(program_.plan_.features[program_.whole_.sequences[feature]]));
          part.sequence_locates.push_back(i);
        }
      }
    }
  }

 private:
  // A count of a window, the most common read: what it needs side by side.
  struct CountRead {
    const Place* place;
    std::int64_t reach;
    std::size_t clock;
    std::uint64_t* column;
  };
  // What one group of shards gives for one locate.
  struct Lane {
    std::vector<TileClock> clocks;
    std::vector<CountRead> counts;
    std::vector<const BlockRead*> others;
    std::vector<std::uint32_t> rows;
    std::vector<Ragged> sequences;
  };

  void open(std::size_t lanes) {
    groups_ = lanes;
    if (lanes_.size() != lanes * located_.size()) {
      lanes_.clear();
      lanes_.resize(lanes * located_.size());
    }
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
      const Locate& locate = program_.locates_[i % located_.size()];
      Lane& lane = lanes_[i];
      if (lane.clocks.empty()) lane.clocks = program_.states_[locate.state]->family(locate.family).clocks();
      lane.rows.clear();
      lane.sequences.clear();
      lane.counts.clear();
      lane.others.clear();
      for (const BlockRead& read : locate.reads) {
        if (read.counts_tiles) {
          lane.counts.push_back({read.place, read.place->aggregate->reach, read.clock, values_.columns[static_cast<std::size_t>(read.node)]});
        } else {
          lane.others.push_back(&read);
        }
        for (const std::size_t feature : read.features) {
          lane.sequences.push_back(ragged_like(program_.plan_.features[program_.whole_.sequences[feature]]));
        }
      }
    }
  }

  template <typename Value>
  static void append(Buffer<Value>& to, const Buffer<Value>& from, std::int64_t begin, std::int64_t end) {
    if (end > begin) std::copy(from.data() + begin, from.data() + end, to.extend(static_cast<std::size_t>(end - begin)));
  }

  static void append_row(Ragged& to, const Ragged& from, std::size_t row) {
    const std::int64_t begin = from.offsets[row];
    const std::int64_t end = from.offsets[row + 1];
    for (std::size_t i = 0; i < to.keys.size(); ++i) append(to.keys[i], from.keys[i], begin, end);
    for (std::size_t i = 0; i < to.numbers.size(); ++i) append(to.numbers[i], from.numbers[i], begin, end);
    append(to.age, from.age, begin, end);
    to.add_row();
  }

  static void append_all(Ragged& to, const Ragged& from) {
    const auto size = static_cast<std::int64_t>(from.age.size());
    const auto shift = static_cast<std::int64_t>(to.age.size());
    for (std::size_t i = 0; i < to.keys.size(); ++i) append(to.keys[i], from.keys[i], 0, size);
    for (std::size_t i = 0; i < to.numbers.size(); ++i) append(to.numbers[i], from.numbers[i], 0, size);
    append(to.age, from.age, 0, size);
    for (std::size_t i = 1; i < from.offsets.size(); ++i) to.offsets.push(shift + from.offsets[i]);
  }

  // Brings each sequence's rows from the groups that read them into the reads' order.
  void join_sequences(std::size_t count) {
    for (std::size_t locate = 0; locate < located_.size(); ++locate) {
      std::size_t sequence = 0;
      for (const BlockRead& read : program_.locates_[locate].reads) {
        for (const std::size_t feature : read.features) {
          join_sequence(locate, sequence++, count, out_.sequences[feature]);
        }
      }
    }
  }

  void join_sequence(std::size_t locate, std::size_t sequence, std::size_t count, Ragged& to) {
    if (groups_ == 1) return append_all(to, lanes_[locate].sequences[sequence]);
    std::vector<std::pair<std::uint32_t, std::uint32_t>> where(count);  // (group, row there)
    for (std::size_t group = 0; group < groups_; ++group) {
      const std::vector<std::uint32_t>& rows = lanes_[group * located_.size() + locate].rows;
      for (std::size_t i = 0; i < rows.size(); ++i) where[rows[i]] = {static_cast<std::uint32_t>(group), static_cast<std::uint32_t>(i)};
    }
    for (const auto& [group, row] : where) append_row(to, lanes_[group * located_.size() + locate].sequences[sequence], row);
  }

  void keep_part(std::size_t first, std::size_t last) {
    const std::size_t nodes = program_.plan_.nodes.size();
    for (std::size_t node = 0; node < nodes; ++node) {
      std::copy_n(values_.columns[node], last - first, &part_->values[node * part_->rows + first]);
    }
    for (std::size_t locate = 0; locate < located_.size(); ++locate) {
      for (std::size_t group = 0; group < groups_; ++group) {
        const Lane& lane = lanes_[group * located_.size() + locate];
        for (const std::uint32_t row : lane.rows) part_->owned[locate].push_back(static_cast<std::uint32_t>(first) + row);
        std::size_t sequence = 0;
        for (std::size_t i = 0; i < part_->sequences.size(); ++i) {
          if (part_->sequence_locates[i] == locate) append_all(part_->sequences[i].second, lane.sequences[sequence++]);
        }
      }
    }
  }

  const Program& program_;
  const Reads& reads_;
  Columns out_;
  Values values_;
  PathSet::Space space_;
  std::vector<LocatedReads> located_;
  std::vector<Lane> lanes_;
  std::size_t groups_ = 1;
  PartColumns* part_ = nullptr;
};

Columns Program::replay(const Records& records, const Reads& reads) {
  if (states_.size() != 1) throw std::invalid_argument("a replay has one state");
  Replay replay(*this, reads);
  states_.front()->replay(records, reads, replay);
  return replay.columns();
}

PartColumns Program::replay_part(const Records& records, const Reads& reads) {
  if (states_.size() != 1) throw std::invalid_argument("a replay has one state");
  PartColumns part;
  Replay replay(*this, reads);
  replay.collect_part(part);
  states_.front()->replay(records, reads, replay);
  return part;
}

Columns Program::finish(std::vector<std::uint64_t> joined, const std::int64_t* times, std::size_t rows) const {
  Values values;
  values.storage = std::move(joined);
  values.columns.resize(plan_.nodes.size());
  values.rows.assign(plan_.nodes.size(), rows);
  for (std::size_t i = 0; i < plan_.nodes.size(); ++i) values.columns[i] = values.storage.data() + i * rows;
  values.times = times;
  for (const int node : whole_.after) compute(node, values);
  Columns out = columns(whole_, rows);
  if (!whole_.vectors.empty()) throw std::invalid_argument("vectors are not joined from partitions");
  emit(whole_, values, {}, 0, rows, out);
  return out;
}

}  // namespace bowerbird
