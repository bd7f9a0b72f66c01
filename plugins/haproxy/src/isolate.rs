//! Which Services are why HAProxy refuses a configuration. Pure: somebody else checks.

use std::collections::BTreeMap;

/// What a check of some Services says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Good,
    /// These are wrong, at least one, each with why.
    Blames(BTreeMap<String, String>),
    /// Something is wrong, and it does not say where.
    Bad(String),
}

/// What cannot be found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure<E> {
    /// It is wrong without any Service too.
    Nobody(String),
    /// The check itself failed.
    Check(E),
}

/// Finds the Services without which the check is good, with why. Those that HAProxy names cost one check each time; one that it does not
/// name costs as many as halving takes.
pub fn isolate<'a, E>(
    all: &[&'a str],
    mut check: impl FnMut(&[&'a str]) -> Result<Verdict, E>,
) -> Result<BTreeMap<String, String>, Failure<E>> {
    let mut culprits = BTreeMap::new();
    loop {
        let rest: Vec<&str> = all.iter().copied().filter(|name| !culprits.contains_key(*name)).collect();
        match check(&rest).map_err(Failure::Check)? {
            Verdict::Good => return Ok(culprits),
            Verdict::Blames(blamed) if blamed.keys().any(|name| rest.contains(&name.as_str())) => {
                culprits.extend(blamed);
            }
            Verdict::Blames(blamed) => return Err(Failure::Nobody(format!("{blamed:?}"))),
            Verdict::Bad(why) => {
                let (name, why) = halve(&rest, why, &mut check)?;
                culprits.insert(name.to_owned(), why);
            }
        }
    }
}

/// The last of the shortest bad beginning of `names`, which are bad together.
fn halve<'a, E>(
    names: &[&'a str],
    mut why: String,
    check: &mut impl FnMut(&[&'a str]) -> Result<Verdict, E>,
) -> Result<(&'a str, String), Failure<E>> {
    if let Verdict::Bad(why) = check(&[]).map_err(Failure::Check)? {
        return Err(Failure::Nobody(why));
    }
    // The first `good` are good, the first `bad` are bad.
    let (mut good, mut bad) = (0, names.len());
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        match check(&names[..middle]).map_err(Failure::Check)? {
            Verdict::Good => good = middle,
            Verdict::Bad(words) => (bad, why) = (middle, words),
            Verdict::Blames(blamed) => (bad, why) = (middle, format!("{blamed:?}")),
        }
    }
    match names.get(good) {
        Some(name) => Ok((name, why)),
        None => Err(Failure::Nobody(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

    fn run(bad: &[&str], names_them: bool) -> (Result<BTreeMap<String, String>, Failure<()>>, usize) {
        let mut checks = 0;
        let found = isolate(&NAMES, |some| {
            checks += 1;
            let here: Vec<&str> = some.iter().copied().filter(|name| bad.contains(name)).collect();
            Ok(match here.is_empty() {
                true => Verdict::Good,
                false if names_them => {
                    Verdict::Blames(here.iter().map(|n| ((*n).to_owned(), "why".to_owned())).collect())
                }
                false => Verdict::Bad("why".to_owned()),
            })
        });
        (found, checks)
    }

    #[test]
    fn those_that_are_named_take_one_check_and_one_more() {
        let (found, checks) = run(&["b", "g"], true);
        assert_eq!(found.unwrap().into_keys().collect::<Vec<_>>(), ["b", "g"]);
        assert_eq!(checks, 2);
    }

    #[test]
    fn those_that_are_not_named_are_found_by_halving() {
        for bad in [&[][..], &["a"], &["g"], &["c", "d"], &NAMES] {
            let (found, checks) = run(bad, false);
            assert_eq!(found.unwrap().into_keys().collect::<Vec<_>>(), bad);
            assert!(checks <= 1 + bad.len() * 5, "{checks} for {bad:?}");
        }
    }

    #[test]
    fn what_is_nobodys_fault_is_blamed_on_nobody() {
        let always = isolate::<()>(&NAMES, |_| Ok(Verdict::Bad("the global section".to_owned())));
        assert_eq!(always, Err(Failure::Nobody("the global section".to_owned())));
    }
}
