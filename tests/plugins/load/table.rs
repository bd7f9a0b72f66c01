//! The faults by name. A line adds one.

/// A fault, and what is seen of it.
#[derive(Debug)]
pub(crate) struct Fault {
    /// What the plugin does, in the words of `plugins/faulty/faults.h`.
    pub(crate) does: &'static str,
    /// What LBEX's log says of it; empty: it has nothing to say.
    pub(crate) says: &'static str,
    /// Where it is seen besides.
    pub(crate) seen: Seen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Applies that fail, and are tried again.
    Retried,
    /// Applies that fail, and would fail again.
    Permanent,
    /// Changes of servers that come with an apply instead.
    Late,
    /// The health endpoint says it.
    Unhealthy,
    /// The proxy is healthy, and applied to again and again.
    OutOfStep,
    /// The proxy is healthy, and nothing fails.
    Harmless,
}

const fn fault(does: &'static str, says: &'static str, seen: Seen) -> Fault {
    Fault { does, says, seen }
}

use Seen::{Harmless, Late, OutOfStep, Permanent, Retried, Unhealthy};

/// What goes wrong soon.
pub(crate) const FAULTS: &[Fault] = &[
    // Answers to apply that are no document of that kind.
    fault("apply garbage", "its reply to apply is not a document lbex.report/1", Retried),
    fault("apply empty", "its reply to apply is not a document lbex.report/1: EOF", Retried),
    fault("apply null", "its reply to apply is not a document lbex.report/1: EOF", Retried),
    fault("apply schema", "has the schema \"lbex.nonsense/9\", and \"lbex.report/1\" is expected", Retried),
    fault("apply array", "its reply to apply is not a document lbex.report/1", Retried),
    fault("apply number", "its reply to apply is not a document lbex.report/1", Retried),
    fault("apply deep", "its reply to apply is not a document lbex.report/1", Retried),
    // Buffers that are not what they say.
    fault("apply huge", "is said to have 1099511627776 bytes; 67108864 are allowed", Retried),
    fault("apply endless", "is said to have 18446744073709551615 bytes; 67108864 are allowed", Retried),
    fault("apply large", "is said to have 67108865 bytes; 67108864 are allowed", Retried),
    fault("apply nowhere", "its reply (100 bytes at 0x1000) cannot be read", Retried),
    fault("apply beyond", "cannot be read: ", Retried),
    // Reports that cannot be believed.
    fault("apply revision", "its report cannot be believed: it is about revision \"mine\"", Retried),
    fault("apply contradiction", "apply returned 1, and its report refuses 0 Service(s)", Retried),
    fault("apply hidden", "apply returned 0, and its report refuses 1 Service(s)", Retried),
    fault("apply noname", "it refuses \"../../etc/passwd\", which is not namespace/name", Retried),
    fault("apply reasonless", "it refuses default/web without saying why", Retried),
    fault("apply word", "which is not 1-64 letters and digits", Retried),
    fault("apply resync", "it asks for the whole desired state, which it was just given", Retried),
    fault(
        "apply stranger",
        "the plugin refuses 1 Service(s) that nobody asked for: nobody/asked, say; ignored",
        Harmless,
    ),
    // Errors.
    fault("apply panic", "apply panicked: index out of bounds", Retried),
    fault("apply code", "apply returned -7, which is no code: what?", Retried),
    fault("apply retry", "the plugin faulty: not now, please", Retried),
    fault("apply long", "the plugin faulty: [31mno", Retried),
    fault("apply invalid", "the plugin faulty: never", Permanent),
    fault("apply unsupported", "the plugin faulty: not I", Permanent),
    // Odd, and allowed.
    fault("apply slow", "", Harmless),
    fault("apply wide", "", Harmless),
    fault("apply scribble", "", Harmless),
    fault("table old", "", Harmless),
    // Changes of servers.
    fault("live garbage", "its reply to apply is not a document lbex.report/1", Late),
    fault("live panic", "apply panicked: index out of bounds", Late),
    fault("live retry", "the plugin did not change servers without a reload: not now, please", Late),
    fault("live resync", "", Late),
    fault("live unsupported", "", Late),
    // Looks.
    fault("observe garbage", "its reply to observe is not a document lbex.observation/1", Harmless),
    fault("observe schema", "is not a document lbex.observation/1", Harmless),
    fault("observe deep", "is not a document lbex.observation/1", Harmless),
    fault("observe nowhere", "its reply (100 bytes at 0x1000) cannot be read", Harmless),
    fault("observe panic", "observe panicked: index out of bounds", Harmless),
    fault("observe code", "observe returned -7, which is no code: what?", Harmless),
    fault("observe revision", "the proxy no longer serves what was applied; applying again", OutOfStep),
    fault("observe step", "the proxy no longer serves what was applied; applying again", OutOfStep),
    fault("observe retry", "a look at the proxy proved nothing (2 of 3 in a row): ", Unhealthy),
    fault("observe unhealthy", "the proxy is no longer healthy: faulty: the proxy is on fire", Unhealthy),
    fault("observe measures", "", Harmless),
    // Calls of LBEX, also from a thread that goes on when the backend is closed.
    fault("apply flood", "log line(s) of the plugin were left out", Harmless),
    fault(
        "apply lines",
        "the plugin logs a line that is none: a log line (100 bytes at 0x40) cannot be read",
        Harmless,
    ),
    fault("thread storm", "log line(s) of the plugin were left out", Harmless),
    fault("thread storm, observe panic", "log line(s) of the plugin were left out", Harmless),
    // When it is opened again.
    fault("apply garbage, open invalid", "it cannot be opened again: never", Retried),
    fault("apply garbage, open garbage", "its reply to lbex_plugin_open is not a document", Retried),
    fault("apply garbage, open panic", "lbex_plugin_open panicked: index out of bounds", Retried),
    fault("apply garbage, open huge", "its reply to lbex_plugin_open is said to have 1099511627776 bytes", Retried),
    fault("apply garbage, table none", "lbex_plugin_open returned 0 and no backend", Retried),
    fault("apply garbage, table small", "its backend's table has 16 bytes; at least 56 are needed", Retried),
    fault("apply garbage, table nowhere", "its backend's table (4 bytes at 0x1000) cannot be read", Retried),
    fault("apply garbage, table apply", "its backend has no function apply", Retried),
];

/// What takes as long as a call may: with short deadlines.
pub(crate) const HANGS: &[Fault] = &[
    fault("apply hang", "apply did not return within 1s, nor soon after it was cancelled", Retried),
    fault("apply late", "the plugin faulty: cancelled", Retried),
    fault("live hang", "apply did not return within 500ms, nor soon after it was cancelled", Late),
    fault("live late", "the plugin did not change servers without a reload: cancelled", Late),
    fault("observe hang", "observe did not return within 500ms", Unhealthy),
    fault("observe late", "a look at the proxy proved nothing (1 of 3 in a row): ", Harmless),
    fault("observe slow", "", Harmless),
    fault("cancel hang", "it has not returned from cancel", Retried),
    fault("apply garbage, close hang", "the plugin does not close: close did not return within 1s", Retried),
    fault("apply garbage, open hang", "lbex_plugin_open did not return within 2s", Retried),
];
