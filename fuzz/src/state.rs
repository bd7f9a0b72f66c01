//! The file of the last good state with anything in it, also under a checksum that is right: it is read as LBEX would have written
//! it, or not at all; and what is read can be saved again.

use lbex::state::StateFile;
use sha2::{Digest, Sha256};

use super::{scratch, write};

const FILE: &str = "state/last-good.json";

/// The file of the last good state with these contents, and with this state in it.
pub fn state(bytes: &[u8]) {
    let sealed = std::str::from_utf8(bytes).ok().map(|state| {
        let sum = Sha256::digest(state.trim());
        format!("{{\"format\":1,\"state\":{},\"sha256\":\"{sum:x}\"}}\n", state.trim()).into_bytes()
    });
    for contents in sealed.into_iter().chain([bytes.to_vec()]) {
        write(FILE, &contents);
        let file = StateFile::below(&scratch());
        match file.read() {
            Ok(None) => panic!("the file is there"),
            Ok(Some(state)) => {
                file.save(&state).expect("saved");
                assert_eq!(file.read().expect("what LBEX wrote"), Some(state));
            }
            Err(error) => {
                let told = error.to_string();
                assert!(!told.contains(char::is_control), "{told:?}");
            }
        }
    }
}
