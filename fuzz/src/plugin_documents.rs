//! What plugins answer, and what they are told: whatever it is, it is a document that can be written again, or an error on one short
//! line; and what is believed of a report is fit to be shown.

use lbex_plugin_abi::documents::{Capabilities, Delta, Desired, Observation, Report, Settings};
use lbex_plugin_abi::{Document, read, report_to_core, write};

/// The longest text that one answer may lead to, in bytes: 1,000 characters of a refusal, and what stands before them.
const LONGEST: usize = 4 * 1000 + 200;

/// Any document, as each of those that there are.
pub fn plugin_documents(bytes: &[u8]) {
    again::<Capabilities>(bytes);
    again::<Settings>(bytes);
    again::<Desired>(bytes);
    again::<Delta>(bytes);
    again::<Observation>(bytes);
    let Some(report) = again::<Report>(bytes) else { return };
    let revision = report.revision.clone();
    let elsewhere = report_to_core(report.clone(), "another", 1).map(drop);
    assert!(revision == "another" || elsewhere.is_err_and(|error| fits(&error.to_string())));
    match report_to_core(report.clone(), &revision, 7) {
        Ok(believed) => {
            assert_eq!((believed.generation, believed.refused.len()), (7, report.refused.len()));
            for refusal in believed.refused.values().flatten() {
                assert!(fits(&refusal.message) && fits(refusal.code), "{refusal:?}");
            }
        }
        Err(error) => assert!(fits(&error.to_string()), "{error:?}"),
    }
}

/// Whether a text can stand in a log.
fn fits(text: &str) -> bool {
    text.len() <= LONGEST && !text.contains(char::is_control)
}

/// The document, which is also what comes of writing it.
fn again<D: Document>(bytes: &[u8]) -> Option<D> {
    match read::<D>(bytes) {
        Ok(document) => {
            let written = write(&document).expect("a document");
            assert!(read::<D>(&written).is_ok(), "{}", written.escape_ascii());
            Some(document)
        }
        Err(error) => {
            assert!(fits(&error.to_string()), "{error:?}");
            None
        }
    }
}
