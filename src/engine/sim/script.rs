//! What happens in a schedule: steps at random times, each of which changes the cluster, makes something go wrong, or ends LBEX.

use super::follow::{Connection, Cut, Lie, Lying};
use super::state::{Event, Faults, State};

/// How LBEX ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is killed.
    Killed,
    /// It is asked to end.
    Stopped,
}

/// How long it is quiet at the end, in ms: every pause between two attempts is over by then.
const QUIET: u64 = 80_000;
/// How long at the end nothing may be reloaded, in ms.
const NO_RELOADS: u64 = 20_000;

/// Within how many ms LBEX hears what the operator says.
const HEARD_WITHIN: u64 = 1_000;

/// What a step leads to.
pub(super) enum Then {
    Goes,
    Ends(End),
    Over,
}

impl State {
    /// Does what is due. `up`: LBEX lives.
    pub(super) fn happens(&mut self, event: Event, up: bool) -> Then {
        match event {
            Event::Put(put) => self.put(put),
            Event::Taken(taken) => self.take(taken),
            // Whether it gets the last good state is looked at when that begins to be applied; whoever starts it then is late.
            Event::StartedByOthers if self.life.applying.is_some() && self.life.applies_last_good => {
                self.schedule(self.now() + 100, Event::StartedByOthers);
            }
            Event::StartedByOthers => self.started_by_others(),
            Event::LbexStarts => {}
            Event::Step => return self.step(up),
        }
        Then::Goes
    }

    fn step(&mut self, up: bool) -> Then {
        self.check_owed();
        if let Some(since) = self.eye.calm_since {
            let (now, early) = (self.now(), since + QUIET - NO_RELOADS);
            let quiet = if now < early { QUIET } else { self.quiet() };
            if now >= since + quiet {
                return Then::Over;
            }
            self.life.late_reloads = 0;
            let next = [early, since + quiet - NO_RELOADS, since + quiet].into_iter().filter(|at| *at > now).min();
            self.schedule(next.unwrap_or(now), Event::Step);
            return Then::Goes;
        }
        if self.setup.steps == 0 {
            if up {
                self.calm();
            }
            self.schedule(self.now() + 100, Event::Step);
            return Then::Goes;
        }
        self.setup.steps -= 1;
        let pause = match self.dice.u8(0..8) {
            0..=3 => self.dice.u64(0..100),
            4..=6 => self.dice.u64(100..2000),
            _ => self.dice.u64(2000..15_000),
        };
        self.schedule(self.now() + pause, Event::Step);
        if self.dice.u8(0..self.setup.calm) > 0 {
            for _ in 0..=self.dice.u8(0..3) {
                let what = self.cluster.mutate(&mut self.dice);
                self.note(|| what);
            }
            self.followers.iter().for_each(|follower| follower.notify_one());
            return Then::Goes;
        }
        self.goes_wrong(up)
    }

    fn goes_wrong(&mut self, up: bool) -> Then {
        let now = self.now();
        let until = now + [500, 3_000, 20_000, 50_000][self.dice.usize(0..4)];
        let yes = self.dice.bool();
        match self.dice.u8(0..18) {
            0 | 1 => {
                self.note(|| format!("applies fail until {until}, permanently: {yes}"));
                self.faults.apply = (until, yes);
            }
            2 => {
                if let Some(config) = self.cluster.snapshot().services().next() {
                    let key = config.key.clone();
                    self.note(|| format!("the port of {key} is taken until {until}"));
                    self.faults.blocked.insert(key, until);
                }
            }
            3 => {
                self.note(|| format!("looks fail until {until}, hanging: {yes}"));
                self.faults.observe = (until, yes);
            }
            4 | 5 => {
                self.note(|| format!("pushes are not taken at once until {until}, or never: {yes}"));
                self.faults.push = (until, yes);
            }
            6 => {
                let most = [500, 3_000, 15_000][self.dice.usize(0..3)];
                self.note(|| format!("each part of an apply takes up to {most} ms until {until}"));
                self.faults.slow = (until, most);
            }
            7 => {
                self.note(|| format!("the disk is full until {until}, emptied: {yes}"));
                if yes {
                    self.disk.saved = None;
                } else {
                    self.disk.full_until = until;
                }
            }
            8 => {
                self.die();
                if yes {
                    let after = self.dice.u64(10..5_000);
                    self.schedule(now + after, Event::StartedByOthers);
                }
            }
            9 => self.drift(),
            10 | 11 => self.watches_fail(until),
            12 | 13 => self.lists_lie(until, yes),
            14 => self.another_cluster_answers(until),
            15 if up => {
                self.note(|| "SIGUSR1".to_owned());
                self.release.notify_one();
                self.life.released_by.get_or_insert(now + HEARD_WITHIN);
            }
            _ if up => return Then::Ends(if yes { End::Killed } else { End::Stopped }),
            _ => self.die(),
        }
        Then::Goes
    }

    fn watches_fail(&mut self, until: u64) {
        for scope in 0..self.followers.len() {
            let cut = if self.dice.bool() { Cut::Off } else { Cut::Gone };
            if self.dice.bool() {
                let fails_until = if self.dice.bool() { until } else { 0 };
                self.note(|| format!("watch {scope} breaks ({cut:?}), and fails until {fails_until}"));
                let list_takes = self.dice.u64(0..3_000);
                self.connections.insert(scope, Connection { cut: Some(cut), fails_until, list_takes });
            }
        }
        self.followers.iter().for_each(|follower| follower.notify_one());
    }

    fn lists_lie(&mut self, until: u64, silent: bool) {
        let lie = [Lie::Empty, Lie::Partial, Lie::Older(self.dice.usize(1..10))][self.dice.usize(0..3)];
        for scope in 0..self.followers.len() {
            if self.dice.bool() {
                self.note(|| {
                    format!("watch {scope} breaks, and its list lies until {until}: {lie:?}, silent: {silent}")
                });
                self.faults.lies.insert(scope, Lying { until, lie, silent });
                self.connection(scope).cut = Some(Cut::Gone);
            }
        }
        self.followers.iter().for_each(|follower| follower.notify_one());
    }

    fn another_cluster_answers(&mut self, until: u64) {
        self.note(|| format!("another cluster answers until {until}"));
        for scope in 0..self.followers.len() {
            self.faults.lies.insert(scope, Lying { until, lie: Lie::Other, silent: true });
            self.connection(scope).cut = Some(Cut::Gone);
        }
        self.followers.iter().for_each(|follower| follower.notify_one());
    }

    /// For how long it is quiet at the end, in ms: what is held when this is first asked is let go in that time, too, and what was let
    /// go in that instant is applied.
    fn quiet(&mut self) -> u64 {
        let more = match self.setup.hold {
            Some(hold) if !self.eye.belief.is_sure() => hold + NO_RELOADS,
            _ if self.life.applying.is_some() => NO_RELOADS,
            _ => 0,
        };
        *self.eye.quiet.get_or_insert(QUIET + more)
    }

    /// Everything is well from now on.
    fn calm(&mut self) {
        self.note(|| "all is well from now on".to_owned());
        // Health may take a while to notice.
        let observe = (self.faults.observe.0.min(self.now()), false);
        self.faults = Faults { observe, ..Faults::default() };
        self.connections.values_mut().for_each(|connection| connection.fails_until = 0);
        self.disk.full_until = 0;
        self.eye.calm_since = Some(self.now());
        self.followers.iter().for_each(|follower| follower.notify_one());
    }
}
