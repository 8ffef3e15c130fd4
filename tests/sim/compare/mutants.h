// SPDX-License-Identifier: LGPL-2.1-or-later
// Deliberate mistakes, made around the comparator and the rewriter (never in them): each makes the
// pair as wrong as if the one named had forgotten something. The oracle must notice every one.
#pragma once

#include <string_view>

namespace libft::sim {

enum class CompareMutant {
  none,
  payload_uncompared,
  acknowledgement_uncompared,
  end_uncompared,
  datagram_uncompared,
  all_released_with_one,
  time_unlimited,
  old_follower_heard,
  released_at_capture,
  compared_while_loading,
  rebase_forgotten,
  sequence_unmapped,
  acknowledgement_unmapped,
  sack_unmapped,
  time_unmapped,
  echo_unmapped,
  checksum_kept,
  mappings_lost,
  mappings_kept,
};

struct CompareMutantInfo {
  CompareMutant mutant;
  std::string_view name, what;
};

constexpr CompareMutantInfo kCompareMutants[] = {
    {CompareMutant::payload_uncompared, "payload_uncompared", "any payload of that length will do"},
    {CompareMutant::acknowledgement_uncompared, "acknowledgement_uncompared",
     "what only the primary has received is acknowledged"},
    {CompareMutant::end_uncompared, "end_uncompared", "a stream ends when the primary's does"},
    {CompareMutant::datagram_uncompared, "datagram_uncompared", "any datagram will do"},
    {CompareMutant::all_released_with_one, "all_released_with_one",
     "with one frame, all that wait leave"},
    {CompareMutant::time_unlimited, "time_unlimited", "the follower is waited for without end"},
    {CompareMutant::old_follower_heard, "old_follower_heard",
     "what a follower said before it was loaded again counts"},
    {CompareMutant::released_at_capture, "released_at_capture",
     "a checkpoint's frames leave before the backup has it"},
    {CompareMutant::compared_while_loading, "compared_while_loading",
     "a checkpoint counts before the backup has it"},
    {CompareMutant::rebase_forgotten, "rebase_forgotten",
     "the comparator is not told of a checkpoint"},
    {CompareMutant::sequence_unmapped, "sequence_unmapped",
     "the promoted guest's own numbers leave"},
    {CompareMutant::acknowledgement_unmapped, "acknowledgement_unmapped",
     "the promoted guest gets the primary's numbers"},
    {CompareMutant::sack_unmapped, "sack_unmapped", "the same, in SACK blocks"},
    {CompareMutant::time_unmapped, "time_unmapped", "the promoted guest's own timestamps leave"},
    {CompareMutant::echo_unmapped, "echo_unmapped", "it gets the primary's timestamps"},
    {CompareMutant::checksum_kept, "checksum_kept", "a checksum is not updated"},
    {CompareMutant::mappings_lost, "mappings_lost", "a promotion begins with no mappings"},
    {CompareMutant::mappings_kept, "mappings_kept", "a loaded follower keeps the one before's"},
};

}  // namespace libft::sim
