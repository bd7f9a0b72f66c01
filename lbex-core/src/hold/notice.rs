//! What an operator should know about removals that are held.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ListKey;

/// How to have it otherwise, at the end of a text.
const AT_ONCE: &str = "SIGUSR1 lets that happen at once";

/// Why something that was held is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was held for `--mass-removal-hold`.
    Time,
    /// The operator asked for it (SIGUSR1).
    Operator,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Time => "the time of --mass-removal-hold is over",
            Self::Operator => "SIGUSR1 asked for it",
        })
    }
}

/// One thing to tell, as its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A list lacks so much that it is not believed yet.
    Held {
        /// Which list.
        list: ListKey,
        /// How many it lacks.
        lacking: usize,
        /// Of how many.
        known: usize,
        /// For how long they stay.
        limit: Duration,
    },
    /// The first lists after a restart lack so much of what was known before it that nothing is planned from them yet.
    HeldAtStart {
        /// Which list.
        list: ListKey,
        /// How many it lacks.
        lacking: usize,
        /// Of how many.
        known: usize,
        /// For how long nothing is planned.
        limit: Duration,
    },
    /// They are held still.
    Still {
        /// Which list.
        list: ListKey,
        /// How many.
        held: usize,
        /// For how much longer.
        left: Duration,
    },
    /// A later list, or watch events, brought them back.
    Restored {
        /// Which list.
        list: ListKey,
        /// How many the later list lacks still: too few to be held.
        gone: usize,
    },
    /// What was held is let go.
    Released {
        /// Which list.
        list: ListKey,
        /// How many.
        count: usize,
        /// Why.
        why: Why,
    },
    /// Another cluster answers.
    OtherCluster {
        /// The one that was known.
        known: Arc<str>,
        /// The one that answers.
        other: Arc<str>,
        /// For how long nothing of it is taken in.
        left: Duration,
    },
    /// The known cluster answers again.
    KnownCluster {
        /// Its identity.
        known: Arc<str>,
    },
    /// The other cluster is taken in.
    Adopted {
        /// Its identity.
        cluster: Arc<str>,
        /// Why.
        why: Why,
    },
}

impl Notice {
    /// Whether something is wrong, or was.
    pub fn is_warning(&self) -> bool {
        !matches!(self, Self::Restored { .. } | Self::KnownCluster { .. })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { list, lacking, known, limit } => write!(
                f,
                "a complete list lacks {lacking} of {known} {list} that were known: they stay for {limit:?} \
                 (--mass-removal-hold), unless they come back before; {AT_ONCE}"
            ),
            Self::HeldAtStart { list, lacking, known, limit } => write!(
                f,
                "the first complete lists lack {lacking} of {known} {list} that were known before the restart: what was served goes on \
                 unchanged for {limit:?} (--mass-removal-hold), unless they come back before; {AT_ONCE}"
            ),
            Self::Still { list, held, left } => {
                write!(f, "{held} {list} that a list lacks still stay, for {left:?} more; {AT_ONCE}")
            }
            Self::Restored { list, gone: 0 } => write!(f, "all {list} that a list lacked are there again"),
            Self::Restored { list, gone } => {
                write!(f, "most {list} that a list lacked are there again; {gone} are gone")
            }
            Self::Released { list, count, why } => write!(f, "{count} {list} that a list lacked are gone now: {why}"),
            Self::OtherCluster { known, other, left } => write!(
                f,
                "another cluster answers: the UID of its namespace kube-system is {other}, it was {known}; nothing of it is taken \
                 in for {left:?} (--mass-removal-hold), what was last known stays in effect; {AT_ONCE}"
            ),
            Self::KnownCluster { known } => write!(f, "the cluster that was known answers again ({known})"),
            Self::Adopted { cluster, why } => {
                write!(f, "everything is replaced by what the other cluster has ({cluster}): {why}")
            }
        }
    }
}
