//! How state gets from the schema version that it has to the one that is
//! wanted: a plan, made before anything is touched.
//!
//! Steps are offered by the plugin version with the newer schema: the incoming
//! one on the way up, the outgoing one on the way down. Up, state older than
//! every declared type is first read by field name as the oldest of them. Down,
//! there is no guessing: the declared steps, else the snapshot of the older
//! schema where that loss is allowed, else a refusal that names what is missing.
//!
//! Pure: no clock, no disk, no plugin code.

use crate::failure::{Code, Failure};
use std::fmt;

pub use crate::load::{StepInfo, StepKind};

/// A step of a plan; the plugin with the newer schema makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// One that the plugin offers.
    Offered(StepInfo),
    /// Up by field name to the oldest type that the plugin declares, over any
    /// number of versions.
    ByFieldName {
        /// The schema version that the bytes have.
        from: u32,
        /// The schema version that they get.
        to: u32,
    },
}

impl Step {
    /// The schema versions before and after.
    pub fn versions(&self) -> (u32, u32) {
        match *self {
            Step::Offered(StepInfo { from, to, .. }) | Step::ByFieldName { from, to } => (from, to),
        }
    }
}

/// What a deployment wants to happen to state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MigratePolicy {
    /// Carry it over, step by step.
    #[default]
    Migrate,
    /// Hand the bytes over unchanged, whatever their schema version.
    Preserve,
    /// Begin without state; the old state is given up.
    Reset,
}

/// What a plan is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The schema version that the state has.
    pub from: u32,
    /// The schema version that is wanted.
    pub to: u32,
    /// The steps that the plugin with the newer schema offers.
    pub steps: &'a [StepInfo],
    /// The deployment's choice.
    pub policy: MigratePolicy,
    /// Whether a snapshot of schema `to` is kept from before.
    pub has_older_snapshot: bool,
    /// Whether a rollback may lose what was written since that snapshot.
    pub allow_loss: bool,
}

/// What to do with the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Same schema version: the bytes fit as they are.
    Unchanged,
    /// These steps, in this order.
    Steps(Vec<Step>),
    /// The bytes as they are, although the schema version differs.
    Preserve,
    /// No state is handed over.
    Reset {
        /// The schema version of the state that is given up.
        lost: u32,
    },
    /// The newest snapshot of the wanted schema version; what was written since
    /// is lost, which is allowed.
    SnapshotBefore {
        /// The schema version of that snapshot.
        schema_version: u32,
    },
}

/// Plans the way of the state.
///
/// ```
/// use replug_host::state::chain::{MigratePolicy, Plan, Request, StepInfo, StepKind, plan};
///
/// let offered = [StepInfo { from: 1, to: 2, kind: StepKind::Hook }];
/// let up = Request {
///     from: 1,
///     to: 2,
///     steps: &offered,
///     policy: MigratePolicy::Migrate,
///     has_older_snapshot: false,
///     allow_loss: false,
/// };
/// assert!(matches!(plan(&up), Ok(Plan::Steps(steps)) if steps.len() == 1));
///
/// let down = Request { from: 2, to: 1, ..up };
/// let refused = plan(&down).unwrap_err();
/// assert_eq!(refused.missing, (2, 1));
/// ```
///
/// # Errors
/// [`NoPath`] if a step is missing and nothing else is allowed instead.
pub fn plan(request: &Request<'_>) -> Result<Plan, NoPath> {
    let Request { from, to, policy, .. } = *request;
    match policy {
        MigratePolicy::Reset => Ok(Plan::Reset { lost: from }),
        _ if from == to => Ok(Plan::Unchanged),
        MigratePolicy::Preserve => Ok(Plan::Preserve),
        MigratePolicy::Migrate if from < to => up(request),
        MigratePolicy::Migrate => down(request),
    }
}

/// No way leads from one schema version to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "state of schema {from} cannot become schema {to}: the plugin offers no step from {} to {}{instead}",
    missing.0, missing.1
)]
pub struct NoPath {
    /// The schema version that the state has.
    pub from: u32,
    /// The schema version that is wanted.
    pub to: u32,
    /// The first step that is not there, from and to.
    pub missing: (u32, u32),
    /// Why an older snapshot was not taken instead.
    pub instead: Instead,
}

/// Why an older snapshot could not stand in for a missing step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// The way is up: older state is no stand-in.
    NotOnTheWayUp,
    /// There is none of the wanted schema version.
    NoSnapshot,
    /// The state of one snapshot was asked for, and no other.
    AskedFor,
    /// There is one, but losing what was written since is not allowed.
    LossNotAllowed,
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Instead::NotOnTheWayUp | Instead::AskedFor => "",
            Instead::NoSnapshot => ", and no older snapshot is kept",
            Instead::LossNotAllowed => {
                ", and going back to the older snapshot would lose what was written since"
            }
        })
    }
}

impl Failure for NoPath {
    fn code(&self) -> Code {
        Code::StateNoPath
    }
}

fn up(request: &Request<'_>) -> Result<Plan, NoPath> {
    let Request { from, to, steps, .. } = *request;
    // From the wanted version back, as far as steps are offered.
    let mut path = Vec::new();
    let mut reached = to;
    while reached > from
        && let Some(step) = offered(steps, reached - 1, reached)
    {
        path.push(Step::Offered(step));
        reached -= 1;
    }
    if reached > from {
        // The steps may begin above the state's version, but may have no gap.
        if steps.iter().any(|step| step.from < step.to && step.from < reached) {
            let missing = (reached - 1, reached);
            return Err(NoPath { from, to, missing, instead: Instead::NotOnTheWayUp });
        }
        path.push(Step::ByFieldName { from, to: reached });
    }
    path.reverse();
    Ok(Plan::Steps(path))
}

fn down(request: &Request<'_>) -> Result<Plan, NoPath> {
    let Request { from, to, steps, has_older_snapshot, allow_loss, .. } = *request;
    let mut path = Vec::new();
    let mut reached = from;
    while reached > to
        && let Some(step) = offered(steps, reached, reached - 1)
    {
        path.push(Step::Offered(step));
        reached -= 1;
    }
    let missing = (reached, reached.saturating_sub(1));
    match (has_older_snapshot, allow_loss) {
        _ if reached == to => Ok(Plan::Steps(path)),
        (true, true) => Ok(Plan::SnapshotBefore { schema_version: to }),
        (true, false) => Err(NoPath { from, to, missing, instead: Instead::LossNotAllowed }),
        (false, _) => Err(NoPath { from, to, missing, instead: Instead::NoSnapshot }),
    }
}

fn offered(steps: &[StepInfo], from: u32, to: u32) -> Option<StepInfo> {
    steps.iter().copied().find(|step| (step.from, step.to) == (from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(from: u32, to: u32) -> StepInfo {
        StepInfo { from, to, kind: StepKind::Hook }
    }

    fn request(from: u32, to: u32, steps: &[StepInfo]) -> Request<'_> {
        Request {
            from,
            to,
            steps,
            policy: MigratePolicy::Migrate,
            has_older_snapshot: false,
            allow_loss: false,
        }
    }

    fn versions(plan: Result<Plan, NoPath>) -> Vec<(u32, u32)> {
        match plan {
            Ok(Plan::Steps(steps)) => steps.iter().map(Step::versions).collect(),
            other => panic!("expected steps, not {other:?}"),
        }
    }

    #[test]
    fn steps_across_several_versions_are_planned_in_order() {
        let steps = [step(2, 3), step(3, 2), step(1, 2), step(2, 1), step(3, 4)];
        assert_eq!(versions(plan(&request(1, 4, &steps))), [(1, 2), (2, 3), (3, 4)]);
        assert_eq!(versions(plan(&request(3, 1, &steps))), [(3, 2), (2, 1)]);
    }

    #[test]
    fn state_older_than_every_type_goes_by_field_name_to_the_oldest() {
        let steps = [step(4, 5), step(5, 6)];
        let leap = Step::ByFieldName { from: 1, to: 4 };
        let expected = vec![leap, Step::Offered(step(4, 5)), Step::Offered(step(5, 6))];
        assert_eq!(plan(&request(1, 6, &steps)), Ok(Plan::Steps(expected)));
        let leap = Step::ByFieldName { from: 1, to: 6 };
        assert_eq!(plan(&request(1, 6, &[])), Ok(Plan::Steps(vec![leap])));
    }

    #[test]
    fn a_gap_in_the_steps_is_refused_and_named() {
        let steps = [step(1, 2), step(3, 4)];
        let refused = plan(&request(1, 4, &steps)).expect_err("2 to 3 is missing");
        assert_eq!(refused.missing, (2, 3));
        assert_eq!(refused.code(), Code::StateNoPath);
        assert_eq!(
            refused.to_string(),
            "state of schema 1 cannot become schema 4: the plugin offers no step from 2 to 3"
        );
    }

    #[test]
    fn a_rollback_without_a_step_down_takes_the_snapshot_with_declared_loss_or_is_refused() {
        let steps = [step(1, 2), step(2, 3), step(3, 2)];
        let none = request(3, 1, &steps);
        let kept = Request { has_older_snapshot: true, ..none };
        let allowed = Request { allow_loss: true, ..kept };
        assert_eq!(plan(&allowed), Ok(Plan::SnapshotBefore { schema_version: 1 }));
        let refused = plan(&kept).expect_err("the loss is not allowed");
        assert_eq!((refused.missing, refused.instead), ((2, 1), Instead::LossNotAllowed));
        assert!(refused.to_string().contains("would lose what was written since"));
        let refused = plan(&none).expect_err("there is no snapshot");
        assert_eq!((refused.missing, refused.instead), ((2, 1), Instead::NoSnapshot));
    }

    #[test]
    fn a_step_down_is_preferred_to_the_snapshot_that_would_lose_writes() {
        let steps = [step(2, 1)];
        let kept = Request { has_older_snapshot: true, allow_loss: true, ..request(2, 1, &steps) };
        assert_eq!(versions(plan(&kept)), [(2, 1)]);
    }

    #[test]
    fn the_policies_preserve_and_reset_run_no_step() {
        let steps = [step(1, 2)];
        let migrate = request(1, 2, &steps);
        let preserve = Request { policy: MigratePolicy::Preserve, ..migrate };
        let reset = Request { policy: MigratePolicy::Reset, ..migrate };
        assert_eq!(plan(&preserve), Ok(Plan::Preserve));
        assert_eq!(plan(&reset), Ok(Plan::Reset { lost: 1 }));
        assert_eq!(plan(&Request { to: 1, ..migrate }), Ok(Plan::Unchanged));
        assert_eq!(plan(&Request { to: 1, ..preserve }), Ok(Plan::Unchanged));
        assert_eq!(plan(&Request { to: 1, ..reset }), Ok(Plan::Reset { lost: 1 }));
    }

    /// The steps of a chain as an SDK lists them: all ways up, some ways down.
    fn chain(oldest: u32, ways_down: &[bool]) -> Vec<StepInfo> {
        let mut steps = Vec::new();
        for (older, down) in (oldest..).zip(ways_down) {
            steps.push(step(older, older + 1));
            if *down {
                steps.push(step(older + 1, older));
            }
        }
        steps
    }

    fn connects(steps: &[Step], from: u32, to: u32) -> bool {
        let mut at = from;
        steps.iter().all(|step| {
            let (before, after) = step.versions();
            std::mem::replace(&mut at, after) == before
        }) && at == to
    }

    proptest! {
        #[test]
        fn a_whole_chain_leads_up_from_anywhere_and_down_exactly_as_far_as_declared(
            oldest in 1_u32..6,
            ways_down in prop::collection::vec(any::<bool>(), 0..6),
            other in 1_u32..12,
        ) {
            let newest = oldest + ways_down.len() as u32;
            let steps = chain(oldest, &ways_down);
            let other = other.min(newest);
            let up = plan(&request(other, newest, &steps));
            let down = plan(&request(newest, other, &steps));
            if other == newest {
                prop_assert_eq!(up, Ok(Plan::Unchanged));
                return Ok(());
            }
            let Ok(Plan::Steps(up)) = up else { panic!("{up:?}") };
            prop_assert!(connects(&up, other, newest));
            let leaps = up.iter().filter(|step| matches!(step, Step::ByFieldName { .. })).count();
            prop_assert_eq!(leaps, usize::from(other < oldest));

            let declared = other >= oldest
                && ways_down[(other - oldest) as usize..].iter().all(|declared| *declared);
            prop_assert_eq!(down.is_ok(), declared);
        }

        #[test]
        fn any_list_of_steps_gives_a_connected_plan_or_a_refusal_that_names_a_missing_one(
            listed in prop::collection::vec((0_u32..8, 0_u32..8), 0..12),
            (from, to) in (prop_oneof![0_u32..8, Just(u32::MAX)], prop_oneof![0_u32..8, Just(u32::MAX)]),
            has_older_snapshot in any::<bool>(),
            allow_loss in any::<bool>(),
        ) {
            let steps: Vec<_> = listed.iter().map(|(from, to)| step(*from, *to)).collect();
            let request = Request { has_older_snapshot, allow_loss, ..request(from, to, &steps) };
            match plan(&request) {
                Ok(Plan::Unchanged) => prop_assert_eq!(from, to),
                Ok(Plan::Steps(path)) => {
                    prop_assert!(connects(&path, from, to));
                    for (place, step) in path.iter().enumerate() {
                        match step {
                            Step::Offered(step) => prop_assert!(steps.contains(step)),
                            Step::ByFieldName { .. } => prop_assert!(place == 0 && from < to),
                        }
                    }
                }
                Ok(Plan::SnapshotBefore { schema_version }) => {
                    prop_assert!(has_older_snapshot && allow_loss && to < from);
                    prop_assert_eq!(schema_version, to);
                }
                Ok(other) => panic!("{other:?} is not a migration"),
                Err(refused) => {
                    let (before, after) = refused.missing;
                    prop_assert_eq!(before.abs_diff(after), 1);
                    prop_assert!(!steps.contains(&step(before, after)));
                }
            }
        }
    }
}
