//! A clock on the wall that a test sets while programs run, by libfaketime. Clocks that only go forward are left alone, as by a host
//! whose clock is set.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::{Scratch, programs};

/// The clock. Programs that run by it see it jump at once.
#[derive(Debug)]
pub struct Clock {
    folder: Scratch,
    library: String,
}

impl Clock {
    /// One that is right.
    ///
    /// Fails where libfaketime is not installed.
    pub fn right() -> Result<Self> {
        let library = programs::libfaketime()?.display().to_string();
        let clock = Self { folder: Scratch::new("clock")?, library };
        clock.set(0)?;
        Ok(clock)
    }

    /// From now on it is wrong by so many seconds: less than none is late.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // Never half-written for those who read it.
        let (new, file) = (self.folder.join("new"), self.folder.join("offset"));
        fs::write(&new, format!("{seconds:+}\n")).context("failed to write a clock's offset")?;
        fs::rename(&new, &file).context("failed to set a clock")
    }

    /// What it shows where it is wrong by so much, in seconds since 1970.
    pub fn shows(seconds: i64) -> Result<f64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let by = Duration::from_secs(seconds.unsigned_abs());
        Ok(if seconds < 0 { now.as_secs_f64() - by.as_secs_f64() } else { (now + by).as_secs_f64() })
    }

    /// What a program has to find in its environment to run by it.
    pub fn variables(&self) -> [(&'static str, String); 6] {
        let on = || "1".to_owned();
        [
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.folder.join("offset").display().to_string()),
            ("FAKETIME_NO_CACHE", on()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", on()),
            // Files have the times that they were written at.
            ("NO_FAKE_STAT", on()),
            ("FAKETIME_DISABLE_SHM", on()),
        ]
    }
}
