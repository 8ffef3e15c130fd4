// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/mutants.h"

namespace libft::sim {
namespace {

constexpr MutantInfo kMutants[] = {
    {Mutant::release_before_ack, "release_before_ack",
     "output is released when its epoch was captured", "1 output commit"},
    {Mutant::release_without_holding, "release_without_holding", "the gate never begins to hold",
     "1 output commit"},
    {Mutant::promote_without_grant, "promote_without_grant",
     "the backup promotes without asking the arbiter", "2 one owner"},
    {Mutant::solo_without_swap, "solo_without_swap",
     "the primary runs alone without asking the arbiter", "1 output commit; 2 one owner"},
    {Mutant::ack_before_decoding, "ack_before_decoding",
     "an epoch is acknowledged when it begins to arrive", "1 output commit"},
    {Mutant::ack_after_unknown_swap, "ack_after_unknown_swap",
     "the backup acknowledges again after a swap without an answer", "1 output commit"},
    {Mutant::ack_while_claiming, "ack_while_claiming",
     "the backup acknowledges while its swap is out", "1 output commit"},
    {Mutant::release_after_unknown_solo, "release_after_unknown_solo",
     "the primary takes no answer for a victory", "1 output commit; 2 one owner"},
    {Mutant::ignore_generation_in_ack, "ignore_generation_in_ack",
     "an acknowledgement counts under any generation", "1 output commit"},
    {Mutant::join_before_image_complete, "join_before_image_complete",
     "the backup is listed before it holds the image", "1 output commit"},
    {Mutant::reuse_incarnation, "reuse_incarnation", "a replica that lost its image keeps its name",
     "1 output commit"},
    {Mutant::apply_partial_epoch, "apply_partial_epoch",
     "half an epoch is applied when the connection breaks", "4 nothing partial"},
    {Mutant::skip_stall_check, "skip_stall_check", "a primary that stood still does not notice",
     "2 one owner"},
    {Mutant::open_gate_on_restart, "open_gate_on_restart",
     "when libft dies, held output is let through", "1 output commit; 2 one owner"},
    {Mutant::seal_after_resume, "seal_after_resume", "the gate is sealed after the guest ran on",
     "1 output commit"},
    {Mutant::skip_apply_before_promotion, "skip_apply_before_promotion",
     "the backup promotes without finishing the application", "3 prefix; 4 nothing partial"},
    {Mutant::resurrect_ended, "resurrect_ended", "a guest that ended is run by the backup",
     "8 owner's will"},
    {Mutant::resume_paused, "resume_paused", "a guest paused by its owner runs after a promotion",
     "8 owner's will"},
    {Mutant::forget_carried_pages, "forget_carried_pages",
     "pages lost with a connection are not sent again", "4 nothing partial"},
    {Mutant::stale_checkpoint, "stale_checkpoint",
     "a checkpoint whose backup left while the guest was asked is taken all the same",
     "5 bounded; progress"},
    {Mutant::input_late, "input_late", "an input is delivered one position late", "replay"},
    {Mutant::input_lost, "input_lost", "an input is left out", "replay"},
    {Mutant::input_twice, "input_twice", "an input is delivered twice", "replay"},
    {Mutant::cut_before_seal, "cut_before_seal",
     "the gate is sealed after the log was cut, and the guest ran between", "1 output commit"},
    {Mutant::cut_in_pieces, "cut_in_pieces",
     "inputs behind the mark are taken for inputs before it", "replay"},
    {Mutant::promote_unexecuted, "promote_unexecuted",
     "the backup promotes without executing what it acknowledged", "3 prefix"},
    {Mutant::splice_logs, "splice_logs",
     "logs lost with a connection are left out, and the next goes on from the last that arrived",
     "replay"},
    {Mutant::request_not_reissued, "request_not_reissued",
     "what the guest asked for and had not got is not asked for again", "progress"},
    {Mutant::execute_before_whole, "execute_before_whole",
     "a log is acknowledged at its first frame", "1 output commit"},
    {Mutant::ack_unexecuted, "ack_unexecuted", "a log is acknowledged when it is here", "lockstep"},
    {Mutant::accept_other_output, "accept_other_output",
     "a replica whose output differs goes on acknowledging", "lockstep"},
    {Mutant::rebase_off_the_cut, "rebase_off_the_cut",
     "the guest runs between an image's capture and the cut of its log", "4 nothing partial"},
    {Mutant::rebase_loses_pages, "rebase_loses_pages",
     "pages of an image lost with a connection are not sent again", "4 nothing partial"},
    {Mutant::rebase_unapplied, "rebase_unapplied",
     "the log is dropped, and the newer image does not take its place", "4 nothing partial"},
    {Mutant::rebase_with_old_state, "rebase_with_old_state",
     "a newer image goes with the device state of the one before", "4 nothing partial"},
    {Mutant::rebase_before_its_log, "rebase_before_its_log",
     "an image takes its place before the log that it covers is here", "3 prefix; replay"},
    {Mutant::shelf_emptied_at_begin, "shelf_emptied_at_begin",
     "the log is dropped when the newer image begins to arrive", "3 prefix; replay"},
    {Mutant::shelf_emptied_whole, "shelf_emptied_whole",
     "with the log before an image goes the log behind it", "3 prefix; replay"},
    {Mutant::shelf_cut_late, "shelf_cut_late", "one epoch too many is dropped from the log",
     "3 prefix; replay"},
    {Mutant::shelf_cut_early, "shelf_cut_early", "the log goes on from the epoch before the image",
     "3 prefix; replay"},
    {Mutant::promote_the_image, "promote_the_image",
     "the backup promotes the image without the log since", "3 prefix"},
};

}  // namespace

std::span<const MutantInfo> mutants() { return kMutants; }

std::optional<MutantInfo> mutant_named(std::string_view name) {
  for (const auto& mutant : kMutants)
    if (mutant.name == name) return mutant;
  return std::nullopt;
}

}  // namespace libft::sim
