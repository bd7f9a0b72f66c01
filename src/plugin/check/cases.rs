//! The cases, in the order in which they are run: each goes on from where the one before left the plugin, or sends everything.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use lbex_plugin_abi::documents::{Action, Desired, Protocol};
use lbex_plugin_abi::tables::code;
use serde_json::{Value, json};

use super::documents::{Services, free_ports, name, service, services};
use super::kit::{Answer, Kit, written};

type Result = std::result::Result<String, String>;

/// How many Services the large case has.
const MANY: u16 = 1000;

/// Runs all of them.
pub(super) async fn all(kit: &mut Kit) -> Vec<(&'static str, Result)> {
    let Some(first) = free_ports(MANY + 2) else {
        return vec![("there are free ports to try with", Err("none below 32000 on 127.0.0.1".to_owned()))];
    };
    let protocols = &kit.capabilities.protocols;
    let protocol = if protocols.contains(&Protocol::Tcp) { Protocol::Tcp } else { Protocol::Udp };
    let few = services(protocol, first, 3);
    let many = services(protocol, first, MANY);
    let mut results = vec![
        ("it looks at its proxy before anything is applied", looks(kit).await),
        ("a change of what it does not have makes it ask for everything", asks(kit, &few).await),
        ("it applies a desired state, and sees it", applies(kit, &few).await),
        ("the same again changes nothing", same_again(kit, &few).await),
        ("it goes on from what it has", goes_on(kit, &few, first + 3).await),
        ("members that it does not know are ignored", ignores(kit, &few).await),
        ("what is no document is refused and does no harm", garbage(kit, &few).await),
        ("a Service without servers is served", applies(kit, &one(service(protocol, first, 0))).await),
    ];
    if kit.capabilities.live_servers {
        results.push(("servers change live", live(kit, protocol, first).await));
    }
    if protocol == Protocol::Tcp {
        results.push(("a port that is taken keeps nothing else from being served", partial(kit, &few, first).await));
    }
    results.extend([
        ("1,000 Services", thousand(kit, &many, protocol, first + MANY).await),
        ("a call that is cancelled returns, and the next one is not", cancelled(kit, &many).await),
        ("it is closed and opened, and goes on", restarts(kit, &few).await),
        ("it serves nothing where nothing is desired", applies(kit, &Services::new()).await),
        ("it ends its proxy", kit.stop().await),
        ("it closes", kit.close().await.map(|()| String::new())),
        ("its calls return in their time", kit.said.in_time()),
        ("its documents are as their schemas say", kit.said.as_in_schemas()),
    ]);
    results
}

fn one(service: std::sync::Arc<lbex_plugin_abi::documents::Service>) -> Services {
    Services::from([(name(0), service)])
}

async fn looks(kit: &mut Kit) -> Result {
    let observation = kit.observe().await?;
    match observation.revision {
        Some(revision) => Err(format!("it has revision {revision:?}, which nobody gave it")),
        None => Ok(observation.detail),
    }
}

async fn asks(kit: &mut Kit, few: &Services) -> Result {
    let (_, answer) = kit.change("nobody-has-this", few, false).await?;
    if answer.code == code::RESYNC {
        return Ok(String::new());
    }
    Err(format!("it answers {}, and {} (resync) is right", answer.words(), code::RESYNC))
}

/// Done, and nothing is refused that was not sent.
fn done(answer: &Answer, sent: &Services) -> std::result::Result<usize, String> {
    let Some(report) = &answer.report else { return Err(format!("it answers {}", answer.words())) };
    match report.refused.keys().find(|name| !sent.contains_key(*name)) {
        Some(name) => Err(format!("it refuses {name}, which nobody asked for")),
        None => Ok(report.refused.len()),
    }
}

fn all_served(answer: &Answer, sent: &Services) -> std::result::Result<(), String> {
    if done(answer, sent)? == 0 {
        return Ok(());
    }
    let refused = answer.report.iter().flat_map(|report| &report.refused).next();
    let why = refused.and_then(|(name, why)| Some(format!("{name}: {}", why.first()?.message)));
    Err(format!("it refuses {}", why.unwrap_or_default()))
}

async fn applies(kit: &mut Kit, services: &Services) -> Result {
    let (revision, answer) = kit.desire(services).await?;
    all_served(&answer, services)?;
    let observation = kit.observe().await?;
    if observation.revision.as_deref() != Some(&revision) {
        return Err(format!("it has revision {:?} and should have {revision:?}", observation.revision));
    }
    if !observation.healthy || observation.in_step == Some(false) {
        return Err(format!("it says that its proxy does not serve it: {}", observation.detail));
    }
    Ok(observation.detail)
}

async fn same_again(kit: &mut Kit, few: &Services) -> Result {
    let (mut from, answer) = kit.desire(few).await?;
    all_served(&answer, few)?;
    // Another revision of the same, and the same revision once more; a change of nothing, and a Service that is as it was.
    let bytes = written(&Desired { revision: from.clone(), services: few.clone(), ..Desired::default() })?;
    let again = kit.send(bytes, &from, kit.deadlines.apply).await?;
    unchanged("the same document again", &again)?;
    for change in [Services::new(), few.clone()] {
        let (revision, answer) = kit.change(&from, &change, false).await?;
        if answer.code == code::RESYNC {
            return Ok("it takes no deltas".to_owned());
        }
        unchanged("a delta that changes nothing", &answer)?;
        from = revision;
    }
    Ok(String::new())
}

fn unchanged(what: &str, answer: &Answer) -> std::result::Result<(), String> {
    match answer.report.as_ref().map(|report| report.action) {
        Some(Action::Unchanged) => Ok(()),
        Some(action) => Err(format!("{what} makes it do something: {action:?}")),
        None => Err(format!("{what} is answered with {}", answer.words())),
    }
}

async fn goes_on(kit: &mut Kit, few: &Services, port: u16) -> Result {
    let (from, answer) = kit.desire(few).await?;
    all_served(&answer, few)?;
    let protocol = few.values().flat_map(|service| &service.listeners).map(|listener| listener.protocol).next();
    let more = Services::from([(name(3), service(protocol.unwrap_or(Protocol::Tcp), port, 1))]);
    let (revision, answer) = kit.change(&from, &more, false).await?;
    if answer.code == code::RESYNC {
        return Ok("it asks for everything instead, which is fine".to_owned());
    }
    all_served(&answer, &more)?;
    let (_, stale) = kit.change(&from, &more, false).await?;
    if stale.code != code::RESYNC {
        return Err(format!("it takes a change of a revision that it no longer has: {}", stale.words()));
    }
    let (_, answer) = kit.change(&revision, &Services::new(), false).await?;
    if answer.is_done() { Ok(String::new()) } else { Err(format!("after a resync it answers {}", answer.words())) }
}

async fn ignores(kit: &mut Kit, few: &Services) -> Result {
    let revision = kit.revision();
    let bytes = written(&Desired { revision: revision.clone(), services: few.clone(), ..Desired::default() })?;
    let mut value: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let unknown = json!({ "a": [1, 2.5, null, { "b": "\u{1f980}" }], "revision": "not this one", "services": {} });
    value["from_a_later_version"] = unknown.clone();
    for (_, service) in value["services"].as_object_mut().into_iter().flatten() {
        service["from_a_later_version"] = unknown.clone();
        service["listeners"][0]["from_a_later_version"] = unknown.clone();
    }
    let answer = kit.send(value.to_string().into_bytes(), &revision, kit.deadlines.apply).await?;
    all_served(&answer, few)?;
    Ok(String::new())
}

async fn garbage(kit: &mut Kit, few: &Services) -> Result {
    let (revision, answer) = kit.desire(few).await?;
    all_served(&answer, few)?;
    let whole = written(&Desired { revision: "x".to_owned(), services: few.clone(), ..Desired::default() })?;
    let half = whole[..whole.len() / 2].to_vec();
    let nonsense = br#"{"schema":"lbex.nonsense/9","revision":"x","services":{}}"#.to_vec();
    for bytes in [b"".to_vec(), b"{".to_vec(), b"\xff\xfe\x00".to_vec(), b"[]".to_vec(), nonsense, half] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        let answer = kit.send(bytes, "x", kit.deadlines.apply).await?;
        if answer.is_done() {
            return Err(format!("it takes {shown:?}"));
        }
    }
    let observation = kit.observe().await?;
    if observation.revision.as_deref() == Some(&revision) {
        return Ok(String::new());
    }
    Err(format!("it has revision {:?} then, and had {revision:?}", observation.revision))
}

async fn live(kit: &mut Kit, protocol: Protocol, port: u16) -> Result {
    let (from, answer) = kit.desire(&one(service(protocol, port, 1))).await?;
    all_served(&answer, &one(service(protocol, port, 1)))?;
    let change = one(service(protocol, port, 2));
    let (revision, answer) = kit.change(&from, &change, true).await?;
    let has = match answer.code {
        code::UNSUPPORTED | code::RETRY => from,
        _ => {
            all_served(&answer, &change)?;
            revision
        }
    };
    let detail = if answer.is_done() { format!("in {:?}", answer.took) } else { "not here: it says so".to_owned() };
    let (_, answer) = kit.change(&has, &Services::new(), false).await?;
    if answer.is_done() { Ok(detail) } else { Err(format!("then it does not go on from {has:?}: {}", answer.words())) }
}

/// Takes a port. The plugin has just been told to give it up, and another check may look whether it is free.
async fn hold(port: u16) -> std::io::Result<TcpListener> {
    let mut tries = 0;
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries < 50 => tries += 1,
            done => return done,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn partial(kit: &mut Kit, few: &Services, port: u16) -> Result {
    kit.desire(&Services::new()).await?;
    let holder = hold(port).await.map_err(|error| format!("port {port}: {error}"))?;
    let (_, answer) = kit.desire(few).await?;
    let refused = done(&answer, few)?;
    let detail = match refused {
        0 => "it does not need the port for itself".to_owned(),
        1 if answer.report.as_ref().is_some_and(|report| report.refused.contains_key(&name(0))) => String::new(),
        _ => return Err(format!("because of one port it refuses {refused} of {} Services", few.len())),
    };
    drop(holder);
    let (_, answer) = kit.desire(few).await?;
    all_served(&answer, few).map_err(|why| format!("when the port is free again {why}"))?;
    Ok(detail)
}

async fn thousand(kit: &mut Kit, many: &Services, protocol: Protocol, port: u16) -> Result {
    let (from, whole) = kit.desire(many).await?;
    all_served(&whole, many)?;
    let more = Services::from([(name(MANY), service(protocol, port, 2))]);
    let (_, one) = kit.change(&from, &more, false).await?;
    if one.code == code::RESYNC {
        return Ok(format!("all in {:.1?}", whole.took));
    }
    all_served(&one, &many.clone().into_iter().chain(more).collect())?;
    Ok(format!("all in {:.1?}, one more in {:.1?}", whole.took, one.took))
}

async fn cancelled(kit: &mut Kit, many: &Services) -> Result {
    let begin = Instant::now();
    let reply = kit.cancel(many).await?;
    let detail = format!("code {} after {:.1?}", reply.code, begin.elapsed());
    let (_, answer) = kit.desire(many).await?;
    done(&answer, many).map_err(|why| format!("afterwards {why}"))?;
    Ok(detail)
}

async fn restarts(kit: &mut Kit, few: &Services) -> Result {
    let (revision, answer) = kit.desire(few).await?;
    all_served(&answer, few)?;
    kit.close().await?;
    kit.open_again().await?;
    let observation = kit.observe().await?;
    if observation.revision.is_some() {
        return Err(format!("it has revision {:?} before it was given any", observation.revision));
    }
    let (_, answer) = kit.change(&revision, few, false).await?;
    if answer.code != code::RESYNC {
        return Err(format!("it goes on from what the one before it had: {}", answer.words()));
    }
    let (_, answer) = kit.desire(few).await?;
    all_served(&answer, few)?;
    let action = answer.report.map(|report| report.action);
    Ok(if action == Some(Action::Started) { "its proxy was started again".to_owned() } else { String::new() })
}
