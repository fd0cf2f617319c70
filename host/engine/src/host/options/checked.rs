//! What options may be together.

use super::{FOREVER, HostBuilder, SameVersion};
use crate::{host::error::HostError, load::INTERFACES_MAX, rehearse::Rehearsal};
use std::time::Duration;

/// The shortest interval at which the host does something again.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

impl HostBuilder {
    /// Refuses what contradicts itself, and makes "no limit" a time that can be
    /// reckoned with.
    pub(in crate::host) fn checked(mut self) -> Result<Self, HostError> {
        let times = [
            ("gate_timeout", &mut self.service.gate_timeout, Duration::ZERO),
            ("quiesce_timeout", &mut self.quiesce_timeout, Duration::ZERO),
            ("hook_timeout", &mut self.unload.hook_timeout, INTERVAL_MIN),
            ("detach_timeout", &mut self.unload.detach_timeout, Duration::ZERO),
            ("threads_timeout", &mut self.unload.threads_timeout, Duration::ZERO),
            ("snapshot_interval", &mut self.snapshot_interval, INTERVAL_MIN),
            ("stuck_after", &mut self.stuck_after, INTERVAL_MIN),
            ("shutdown_timeout", &mut self.shutdown_timeout, Duration::ZERO),
            ("probation", &mut self.probation, Duration::ZERO),
        ];
        for (option, time, least) in times {
            if *time < least {
                let reason = format!("{time:?} is too short; {least:?} is the least");
                return Err(HostError::Option { option, reason });
            }
            *time = (*time).min(FOREVER);
        }
        if self.too_many_interfaces {
            let reason = format!("a host has {INTERFACES_MAX} interfaces at most");
            return Err(HostError::Option { option: "interface", reason });
        }
        if self.trust.is_production() {
            self.same_version = SameVersion::Refuse;
        }
        if self.trust.is_hopeless() {
            let reason = "neither keys nor digests are named, so nothing could be loaded".to_owned();
            return Err(HostError::Option { option: "trust", reason });
        }
        if let Some(reason) = self.rehearsal.as_ref().and_then(Rehearsal::contradiction) {
            return Err(HostError::Option { option: "rehearsal", reason });
        }
        let (quiesce, gate) = (self.quiesce_timeout, self.service.gate_timeout);
        if quiesce >= gate {
            let reason =
                format!("{quiesce:?} is not below the gate_timeout, {gate:?}: callers would give up first");
            return Err(HostError::Option { option: "quiesce_timeout", reason });
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{artifact::trust::Trust, failure::Failure};
    use std::path::Path;

    fn option_of(adjust: impl FnOnce(HostBuilder) -> HostBuilder) -> Option<&'static str> {
        let error = adjust(HostBuilder::new(Path::new("plugins"))).checked().err()?;
        assert_eq!(error.code().as_str(), "host.options");
        match error {
            HostError::Option { option, .. } => Some(option),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn options_that_would_spin_or_contradict_each_other_are_refused() {
        assert_eq!(option_of(|options| options), None);
        assert_eq!(option_of(|o| o.snapshot_interval(Duration::ZERO)), Some("snapshot_interval"));
        assert_eq!(option_of(|o| o.stuck_after(Duration::ZERO)), Some("stuck_after"));
        assert_eq!(option_of(|o| o.hook_timeout(Duration::ZERO)), Some("hook_timeout"));
        assert_eq!(option_of(|o| o.quiesce_timeout(Duration::from_secs(5))), Some("quiesce_timeout"));
        assert_eq!(option_of(|o| o.gate_timeout(Duration::from_secs(1))), Some("quiesce_timeout"));
        assert_eq!(option_of(|o| o.trust(Trust::production())), Some("trust"));
        let rehearsal = || Rehearsal::by("helper");
        assert_eq!(option_of(|o| o.rehearsal(rehearsal())), None);
        for hopeless in [
            rehearsal().timeout(Duration::ZERO),
            rehearsal().memory_bytes_max(1),
            rehearsal().descriptors_max(3),
        ] {
            assert_eq!(option_of(|o| o.rehearsal(hopeless)), Some("rehearsal"));
        }
    }

    #[test]
    fn no_limit_is_a_time_that_can_be_added() {
        let options = HostBuilder::new(Path::new("plugins"))
            .hook_timeout(Duration::MAX)
            .shutdown_timeout(Duration::MAX)
            .checked()
            .expect("no limit is allowed");
        assert!(std::time::Instant::now().checked_add(options.unload.hook_timeout * 2).is_some());
        assert!(std::time::Instant::now().checked_add(options.shutdown_timeout).is_some());
    }
}
