// SPDX-License-Identifier: LGPL-2.1-or-later
// A Mutant is one deliberate mistake, made by the simulation's runner (never by product code) when
// it is named at run time. Each one shows that the oracle would notice its like: a simulation that
// finds nothing must be able to find something.
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace libft::sim {

enum class Mutant {
  none,
  release_before_ack,
  release_without_holding,
  promote_without_grant,
  solo_without_swap,
  ack_before_decoding,
  ack_after_unknown_swap,
  ack_while_claiming,
  release_after_unknown_solo,
  ignore_generation_in_ack,
  join_before_image_complete,
  reuse_incarnation,
  apply_partial_epoch,
  skip_stall_check,
  open_gate_on_restart,
  seal_after_resume,
  skip_apply_before_promotion,
  resurrect_ended,
  resume_paused,
  forget_carried_pages,
  stale_checkpoint,
  // Of replay:
  input_late,
  input_lost,
  input_twice,
  cut_before_seal,
  cut_in_pieces,
  promote_unexecuted,
  splice_logs,
  request_not_reissued,
  execute_before_whole,
  // Of a follower that is late on purpose:
  promote_forgets_delayed,
  delay_drops_beyond_bound,
  delay_turns_order,
  delay_too_short,
  delay_unbounded,
  delayed_lost_with_connection,
  // Of lockstep:
  ack_unexecuted,
  ack_all_here,
  accept_other_output,
  promote_forgets_executed,
  ack_executed_while_claiming,
  executed_lost_with_connection,
  here_unheard,
  promote_apart,
  // Of three replicas that vote:
  minority_rules,
  outvoted_acks,
  outvoted_unfenced,
  replaced_by_old,
  replaced_forgets_rest,
  doubt_claims,
  outvoted_end_believed,
  // Of hybrid:
  rebase_off_the_cut,
  rebase_loses_pages,
  rebase_unapplied,
  rebase_with_old_state,
  rebase_before_its_log,
  shelf_emptied_at_begin,
  shelf_emptied_whole,
  shelf_cut_late,
  shelf_cut_early,
  promote_the_image,
  // Of changes of strategy:
  change_undrained,
  change_forgets_late,
  change_adopts_early,
  change_drops_shelf,
  change_unheard,
  // Of compare:
  former_follower_heard,
  compared_unprotected,
  released_unsaid,
  paused_followed,
  follower_of_old_state,
  image_changes_forgotten,
  own_pages_kept,
  promote_under_follower,
  promoted_unmapped,
  lost_follower_kept,
  // Of a hold:
  held_unasked,
  held_opens_gate,
  held_forgets_written,
  held_with_old_state,
  held_acknowledges_on,
};

struct MutantInfo {
  Mutant mutant;
  std::string_view of;  // The strategy that it breaks.
  std::string_view name;
  std::string_view what;
  std::string_view rules;  // The rules that may catch it, separated by "; ".
};

std::span<const MutantInfo> mutants();
std::optional<MutantInfo> mutant_named(std::string_view name);

}  // namespace libft::sim
