//! Whether workers that were told to finish have closed their listening sockets.
//!
//! Nothing in NGINX tells. A worker takes the title 'shutting down' right before it closes them, and waits for events right after
//! that; the clock alone proves nothing, since its processor may be taken from it in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::proc::{self, Activity, ProcessId, Role};

/// How much processor time it takes at most, of one with so many connections to finish that it never rests.
const WORK: Duration = Duration::from_millis(100);

/// How long it is waited for where it neither rests nor gets a processor, as one does that waits for a disk which does not answer.
const LONGEST: Duration = Duration::from_secs(5);

/// Looks at workers again and again. Blocking and short.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    /// Those that say that they finish: since when, and the processor time that they had had then.
    titled: BTreeMap<ProcessId, (Instant, Duration)>,
}

impl Closing {
    /// Whether a process may still accept connections, or take datagrams.
    pub(crate) fn accepts(&mut self, id: ProcessId) -> bool {
        match proc::role_of(id) {
            Some(Role::ShuttingDown) => {
                let Some(now) = proc::activity(id) else { return false };
                let (since, used) = *self.titled.entry(id).or_insert_with(|| (Instant::now(), now.used));
                !has_closed(now, since.elapsed(), now.used.saturating_sub(used))
            }
            Some(_) => true,
            // Without a title that tells, it is not to be taken for one that accepts nothing.
            None => proc::is_alive(id),
        }
    }
}

/// Of one that has said for so long that it finishes, and had so much processor time since.
fn has_closed(now: Activity, titled_for: Duration, used: Duration) -> bool {
    now.rests || used >= WORK || titled_for >= LONGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_closed_when_the_worker_rests_or_worked_since_it_said_so_and_not_by_the_clock() {
        let (ms, runs) = (Duration::from_millis, Activity { rests: false, used: Duration::from_secs(7) });
        assert!(has_closed(Activity { rests: true, ..runs }, ms(0), ms(0)));
        assert!(!has_closed(runs, ms(0), ms(0)));
        assert!(!has_closed(runs, ms(2000), ms(20)), "its processor was taken from it");
        assert!(has_closed(runs, ms(150), ms(100)), "it never rests");
        assert!(has_closed(runs, ms(5000), ms(0)));
    }

    #[test]
    fn a_process_that_lives_and_has_no_title_of_nginx_may_accept() {
        let own = proc::identify(i32::try_from(std::process::id()).expect("a pid")).expect("it runs");
        let mut closing = Closing::default();
        assert!(closing.accepts(own));
        assert!(!closing.accepts(ProcessId { started: own.started + 1, ..own }), "it ended");
    }
}
