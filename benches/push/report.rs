//! The tables, and whether what is aimed at was met.

use std::time::Duration;

use super::hole::Tally;
use super::idle::Idle;
use super::measure::Run;
use super::systems::System;
use crate::common::stats::{megabytes, ratio, time};
use crate::common::table::{Table, aim};

/// The most that a median and a 99th percentile may be behind the bare watcher's, in seconds.
const AIMS: [(usize, f64); 2] = [(50, 0.002), (99, 0.010)];

/// A row of the main table.
pub(crate) struct Row {
    pub(crate) system: System,
    pub(crate) services: usize,
    pub(crate) rate: &'static str,
    pub(crate) run: Run,
}

impl Row {
    fn is_beside(&self, other: &Self) -> bool {
        (self.services, self.rate) == (other.services, other.rate)
    }

    /// How far it is behind the bare watcher, in seconds.
    fn behind(&self, percent: usize) -> f64 {
        self.run.added.percentile(percent) - self.run.watched.percentile(percent)
    }
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) holes: Vec<(System, Tally)>,
    pub(crate) idle: Vec<(System, usize, Idle)>,
}

impl Report {
    pub(crate) fn print(&self) {
        self.print_times();
        self.print_costs();
        self.print_holes();
        self.print_idle();
        self.print_aims();
    }

    fn print_times(&self) {
        let mut table = Table::new([
            "",
            "Services",
            "changes",
            "p50",
            "p99",
            "max",
            "removed p50",
            "max",
            "watcher p50",
            "p99",
            "max",
            "behind it, p50",
            "p99",
            "p50 / reloaded",
            "p99",
        ]);
        for row in &self.rows {
            let Run { added, removed, watched, .. } = &row.run;
            let reloaded = self.rows.iter().find(|other| other.is_beside(row) && other.system == System::Reloaded);
            let beside = |percent| {
                let other = reloaded.map_or(f64::NAN, |other| other.run.added.percentile(percent));
                ratio(added.percentile(percent), other)
            };
            table.row([
                row.system.name().to_owned(),
                row.services.to_string(),
                format!("{}, {}", added.len(), row.rate),
                time(added.median()),
                time(added.percentile(99)),
                time(added.max()),
                time(removed.median()),
                time(removed.max()),
                time(watched.median()),
                time(watched.percentile(99)),
                time(watched.max()),
                signed_time(row.behind(50)),
                signed_time(row.behind(99)),
                beside(50),
                beside(99),
            ]);
        }
        table.print("API write to first connection on the new endpoint");
    }

    fn print_costs(&self) {
        let mut table = Table::new([
            "",
            "Services",
            "changes",
            "NGINX CPU per change",
            "LBEX CPU per change",
            "reloads",
            "connections",
            "failed",
        ]);
        for row in &self.rows {
            let Run { added, used, reloads, connections, failed, .. } = &row.run;
            let changes = u32::try_from(added.len()).unwrap_or(u32::MAX).max(1);
            let per_change = |used: Duration| time((used / changes).as_secs_f64());
            table.row([
                row.system.name().to_owned(),
                row.services.to_string(),
                format!("{}, {}", added.len(), row.rate),
                per_change(used.nginx),
                per_change(used.lbex),
                reloads.to_string(),
                connections.to_string(),
                failed.to_string(),
            ]);
        }
        table.print("The same runs: what they cost, the client's connections included");
    }

    fn print_holes(&self) {
        let mut table = Table::new(["", "changes", "reloads", "connections", "met it", "failed"]);
        for (system, tally) in &self.holes {
            table.row([
                system.name().to_owned(),
                tally.changes.to_string(),
                tally.reloads.to_string(),
                tally.connections.to_string(),
                tally.met.to_string(),
                tally.failed.to_string(),
            ]);
        }
        table.print("One of four endpoints black-holed while another changes 10 times a second");
    }

    fn print_idle(&self) {
        let mut table = Table::new(["", "Services", "LBEX CPU", "NGINX CPU", "LBEX memory", "NGINX memory"]);
        for (system, services, idle) in &self.idle {
            let share = |used: Duration| format!("{:.2} %", 100.0 * used.as_secs_f64() / idle.took.as_secs_f64());
            table.row([
                system.name().to_owned(),
                services.to_string(),
                share(idle.used.lbex),
                share(idle.used.nginx),
                memory(idle.lbex_memory),
                memory(idle.nginx_memory),
            ]);
        }
        let took = self.idle.first().map_or(0.0, |(_, _, idle)| idle.took.as_secs_f64());
        table.print(&format!("Nothing happens for {took:.0} s; CPU of one processor"));
    }

    fn print_aims(&self) {
        let pushed: Vec<&Row> = self.rows.iter().filter(|row| row.system == System::Embedded).collect();
        for (percent, most) in AIMS {
            let worst = pushed.iter().map(|row| row.behind(percent)).fold(f64::NAN, f64::max);
            let what = format!("embedded, pushed: p{percent} within {} of the bare watcher's in every row", time(most));
            aim(&format!("{what} (worst: {})", signed_time(worst)), worst <= most);
        }
        let sum = |of: fn(&Run) -> bool| pushed.iter().all(|row| of(&row.run));
        aim("embedded, pushed: no reload", sum(|run| run.reloads <= 0.0));
        aim("embedded, pushed: no failed connection", sum(|run| run.failed == 0));
        let holes = self.holes.iter().filter(|(system, _)| *system == System::Embedded);
        aim(
            "embedded, pushed, black hole: no failed connection",
            holes.map(|(_, tally)| tally.failed).sum::<usize>() == 0,
        );
    }
}

/// A difference of times; one that is negative comes from what the two do not share.
fn signed_time(seconds: f64) -> String {
    if seconds < 0.0 { format!("-{}", time(-seconds)) } else { time(seconds) }
}

#[allow(clippy::cast_precision_loss)]
fn memory(bytes: u64) -> String {
    megabytes(bytes as f64)
}
