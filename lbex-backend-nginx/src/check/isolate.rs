//! Finds the Services whose files NGINX refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Instant;

use lbex_core::names::ServiceKey;

use super::Complaint;

/// Tries a configuration with these Services.
pub trait Judge: Send {
    /// Why no answer could be had.
    type Error: Send;

    /// `Ok(Err(complaint))`: refused.
    fn judge(
        &mut self,
        services: &BTreeSet<ServiceKey>,
    ) -> impl Future<Output = Result<Result<(), Complaint>, Self::Error>> + Send;
}

/// What [`isolate`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Isolated {
    /// Services that are refused, and why.
    pub guilty: BTreeMap<ServiceKey, Complaint>,
    /// Services for which there was no time.
    pub undecided: BTreeSet<ServiceKey>,
    /// Refused without any Service: it is not theirs.
    pub foreign: Option<Complaint>,
}

/// Finds those of `suspects` without which the configuration is taken.
///
/// NGINX mostly names the file; that Service is taken out and the rest tried again. If it does not, the suspects are halved
/// until one is left. What was not decided by `deadline` is [`Isolated::undecided`].
pub async fn isolate<J: Judge>(
    judge: &mut J,
    suspects: BTreeSet<ServiceKey>,
    deadline: Instant,
) -> Result<Isolated, J::Error> {
    let mut found = Isolated::default();
    let mut innocent: BTreeSet<ServiceKey> = BTreeSet::new();
    let mut alone_is_fine = false;
    let mut groups = vec![suspects];
    while let Some(mut group) = groups.pop() {
        if group.is_empty() {
            continue;
        }
        if Instant::now() >= deadline {
            found.undecided.extend(group);
            continue;
        }
        let trial = innocent.union(&group).cloned().collect();
        let Err(complaint) = judge.judge(&trial).await? else {
            innocent.extend(group);
            continue;
        };
        let named = complaint.file.as_ref().map(|(service, _)| service).filter(|service| group.contains(*service));
        if let Some(service) = named.cloned() {
            group.remove(&service);
            found.guilty.insert(service, complaint);
            groups.push(group);
            continue;
        }
        if !alone_is_fine {
            if let Err(complaint) = judge.judge(&BTreeSet::new()).await? {
                found.foreign = Some(complaint);
                return Ok(found);
            }
            alone_is_fine = true;
        }
        if group.len() == 1 {
            found.guilty.extend(group.into_iter().map(|service| (service, complaint.clone())));
        } else {
            let middle = group.iter().nth(group.len() / 2).cloned();
            let right = middle.map(|middle| group.split_off(&middle)).unwrap_or_default();
            groups.extend([right, group]);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::*;
    use crate::render::ServiceFileName;

    /// Refuses some Services; names them or not. Counts.
    struct Fake {
        bad: BTreeSet<ServiceKey>,
        names: bool,
        always: bool,
        calls: usize,
    }

    impl Judge for Fake {
        type Error = Infallible;

        async fn judge(&mut self, services: &BTreeSet<ServiceKey>) -> Result<Result<(), Complaint>, Infallible> {
            self.calls += 1;
            let Some(bad) = services.intersection(&self.bad).next() else {
                return Ok(if self.always { Err(complaint(None)) } else { Ok(()) });
            };
            Ok(Err(complaint(self.names.then_some(bad))))
        }
    }

    fn complaint(service: Option<&ServiceKey>) -> Complaint {
        let file = service.map(|service| (service.clone(), ServiceFileName::of(service, "")));
        Complaint { message: "no".to_owned(), file, socket: None }
    }

    fn services(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<ServiceKey> {
        numbers.into_iter().map(|n| ServiceKey::new("default", &format!("s{n:04}")).expect("a name")).collect()
    }

    async fn run(bad: &[usize], names: bool, always: bool, time: Duration) -> (Isolated, usize) {
        let mut fake = Fake { bad: services(bad.iter().copied()), names, always, calls: 0 };
        let Ok(found) = isolate(&mut fake, services(0..1000), Instant::now() + time).await;
        (found, fake.calls)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn services_that_nginx_names_take_one_try_each() {
        let (found, calls) = run(&[3, 500, 999], true, false, LONG).await;
        assert_eq!(found.guilty.into_keys().collect::<BTreeSet<_>>(), services([3, 500, 999]));
        assert_eq!(calls, 4);
    }

    #[tokio::test]
    async fn services_that_nginx_does_not_name_are_found_by_halving() {
        let (found, calls) = run(&[3, 500, 999], false, false, LONG).await;
        assert_eq!(found.guilty.into_keys().collect::<BTreeSet<_>>(), services([3, 500, 999]));
        assert!(calls < 70, "{calls}");
    }

    #[tokio::test]
    async fn what_is_nobodys_fault_is_blamed_on_nobody() {
        let (found, calls) = run(&[], false, true, LONG).await;
        assert!(found.guilty.is_empty() && found.foreign.is_some());
        assert_eq!(calls, 2);
    }

    #[tokio::test]
    async fn without_time_nothing_is_decided() {
        let (found, calls) = run(&[3], true, false, Duration::ZERO).await;
        assert_eq!((found.undecided.len(), calls), (1000, 0));
    }
}
