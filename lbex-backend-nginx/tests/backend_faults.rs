//! The backend with real NGINXes, and what goes wrong on a host.

#[path = "common/bench.rs"]
mod bench;
mod common;
#[path = "common/net.rs"]
mod net;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use bench::{Bench, answers, both, named, to};
use common::{change, key, nginxes, on, service, tcp, udp};
use lbex_backend_nginx::{EndpointUpdates, NginxBackend, NginxOptions};
use lbex_core::backend::{Action, Instead, ProxyBackend};
use net::{ask_tcp, eventually, free_everywhere, free_port, is_alive, own_address, read_name, server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Two seconds are what the contract wants for an NGINX that was killed, and 0.1 s what it takes; a machine that runs much else
/// at once needs more.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_lbex_adopts_what_runs() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let (one, a) = (server("one", home), SocketAddr::new(home, free_port(home)));
        let services = [both("a", a, &[one]), both("b", SocketAddr::new(home, free_port(home)), &[])];
        bench.apply(&services).await;
        let (master, held) = (bench.master().await, TcpStream::connect(a).expect("connected"));
        bench.restart().await;
        assert_eq!(answers(a), named("one"), "it served meanwhile");
        let report = bench.apply(&services).await;
        assert_eq!((report.action, report.refused.len()), (Action::Unchanged, 0));
        assert_eq!(bench.master().await, master);
        // And goes on from there.
        bench.restart().await;
        assert_eq!(bench.apply(&services[..1]).await.action, Action::Reloaded);
        assert_eq!((bench.master().await, read_name(&held).as_str()), (master, "one"));
        assert!(is_alive(held));
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_concerns_its_service_alone() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let (one, two) = (server("one", home), server("two", home));
        let mut ports = (0..4).map(|_| SocketAddr::new(home, free_port(home)));
        let mut next = || ports.next().expect("a port");
        let (a, b, c, taken) = (next(), next(), next(), next());
        bench.apply(&[both("a", a, &[one])]).await;

        // `a` moves to a port that this test holds, `b` is new there too; `c` is fine.
        let holder = TcpListener::bind(taken).expect("bound");
        let report = bench.apply(&[both("a", taken, &[one]), both("c", c, &[two])]).await;
        assert_eq!(report.action, Action::Reloaded);
        let refusal = &report.refused[&key("a")][0];
        assert_eq!((refusal.code, refusal.instead, refusal.retry), ("PortInUse", Instead::LastGood, true));
        assert!(refusal.message.contains(&std::process::id().to_string()), "{refusal}");
        assert_eq!((answers(a), answers(c)), (named("one"), named("two")));
        let report = bench.apply(&[both("b", taken, &[one]), both("c", c, &[two])]).await;
        assert_eq!(report.refused[&key("b")][0].instead, Instead::LeftOut);
        assert_eq!((ask_tcp(a), answers(c)), (None, named("two")));
        // A restarted LBEX finds the same.
        bench.restart().await;
        let report = bench.apply(&[both("b", taken, &[one]), both("c", c, &[two])]).await;
        assert_eq!((report.action, report.refused.len()), (Action::Unchanged, 1));
        // The port becomes free.
        drop(holder);
        let begin = Instant::now();
        let report = loop {
            let report = bench.apply_again().await;
            // A program that another test starts has the listener too, until it is executed.
            if report.refused.is_empty() {
                break report;
            }
            assert!(begin.elapsed() < PATIENCE, "{report:?}");
        };
        assert_eq!(report.action, Action::Reloaded);
        assert_eq!(answers(taken), named("one"));
        // UDP taken.
        let _holder = UdpSocket::bind(b).expect("bound");
        let report = bench.apply(&[both("d", b, &[one]), both("c", c, &[two])]).await;
        assert_eq!(report.refused[&key("d")][0].code, "PortInUse");
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_another_host_concerns_its_service_alone() {
    let mut bench = Bench::open(nginxes().remove(0)).await;
    let home = own_address();
    let (one, a) = (server("one", home), SocketAddr::new(home, free_port(home)));
    // TEST-NET-1: nobody has it.
    let away = service("away", vec![on(tcp(a.port(), &[]), &["192.0.2.1"])]);
    let report = bench.apply(&[both("a", a, &[one]), away]).await;
    assert_eq!(report.refused[&key("away")][0].code, "AddressNotAvailable");
    assert_eq!(answers(a), named("one"));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_gives_way_to_one_that_covers_it() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let (one, a) = (server("one", home), SocketAddr::new(home, free_everywhere()));
        let wide = service(
            "a",
            vec![on(tcp(a.port(), &[&to(one)]), &["0.0.0.0"]), on(udp(a.port(), &[&to(one)]), &["0.0.0.0"])],
        );
        for (service, place) in [(both("a", a, &[one]), a), (wide, a), (both("a", a, &[one]), a)] {
            let report = bench.apply(&[service]).await;
            assert!(report.refused.is_empty(), "{report:?}");
            assert_eq!(answers(place), named("one"));
        }
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_nginx_is_noticed_and_started_again() {
    for choice in nginxes() {
        let mut bench = Bench::open(choice).await;
        let home = own_address();
        let (one, a) = (server("one", home), SocketAddr::new(home, free_port(home)));
        bench.apply(&[both("a", a, &[one])]).await;

        // All of it.
        for pid in bench.pids().await.into_iter().rev() {
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
        }
        eventually("it is noticed", async || bench.backend().observe().await.is_ok_and(|seen| !seen.healthy)).await;
        let begin = Instant::now();
        assert_eq!(bench.apply_again().await.action, Action::Started);
        println!("started again after {:?}", begin.elapsed());
        assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
        assert_eq!(answers(a), named("one"));

        // The master alone: its workers serve on, and hold the ports.
        kill(Pid::from_raw(bench.master().await), Signal::SIGKILL).expect("killed");
        eventually("it is noticed", async || bench.backend().observe().await.is_ok_and(|seen| !seen.in_step)).await;
        let begin = Instant::now();
        assert_eq!(bench.apply_again().await.action, Action::Started);
        println!("orphans replaced after {:?}", begin.elapsed());
        assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
        assert_eq!(answers(a), named("one"));
        bench.is_well().await;
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_answers_while_apply_hangs() {
    let mut bench = Bench::open(nginxes().remove(0)).await;
    let home = own_address();
    let (one, a) = (server("one", home), SocketAddr::new(home, free_port(home)));
    bench.apply(&[both("a", a, &[one])]).await;
    let master = Pid::from_raw(bench.master().await);
    kill(master, Signal::SIGSTOP).expect("stopped");
    let b = SocketAddr::new(home, free_port(home));
    let (state, delta) = change(&bench.state, &[both("a", b, &[one])]);
    let backend = bench.backend();
    {
        let apply = backend.apply(&state, &delta);
        tokio::pin!(apply);
        let hangs = tokio::time::timeout(Duration::from_millis(300), &mut apply).await;
        assert!(hangs.is_err(), "{hangs:?}");
        // Bounded, as `apply` has the master to wait for.
        tokio::time::timeout(PATIENCE, bench.is_well()).await.expect("an answer");
        kill(master, Signal::SIGCONT).expect("continued");
        assert_eq!(apply.await.expect("applied").action, Action::Reloaded);
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_is_seen_among_others_and_named() {
    let mut bench = Bench::open(nginxes().remove(0)).await;
    let home = own_address();
    let (one, a) = (server("one", home), SocketAddr::new(home, free_port(home)));
    bench.apply(&[both("a", a, &[one])]).await;
    // The first workers have served with addresses beside the names, and end.
    let all_serve = async || bench.nginx().status().await.is_some_and(|master| master.draining() == 0);
    eventually("no worker is old", all_serve).await;
    let worker = bench.nginx().status().await.expect("it runs").workers[0].id.pid;
    let stopped = Pid::from_raw(worker);
    let before = bench.pids().await;
    kill(stopped, Signal::SIGSTOP).expect("stopped");
    eventually("the stopped worker is named", async || {
        // A look that began before it stopped may get no answer.
        let Ok(observed) = bench.backend().observe().await else { return false };
        let named = observed.detail.contains(&format!(" {worker} of NGINX are stopped"));
        assert!(observed.in_step, "nothing is to be applied: {observed:?}");
        !observed.healthy && named
    })
    .await;
    kill(stopped, Signal::SIGCONT).expect("continued");
    eventually("all is well", async || bench.backend().observe().await.is_ok_and(|observed| observed.healthy)).await;
    assert_eq!(bench.pids().await, before, "the same processes");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_lbex_on_the_prefix_is_refused() {
    let bench = Bench::open(nginxes().remove(0)).await;
    let options = NginxOptions {
        choice: bench.choice.clone(),
        prefix: bench.prefix.clone(),
        worker_shutdown_timeout: None,
        endpoint_updates: EndpointUpdates::default(),
        starter: lbex_backend_nginx::process::Starter::Own,
        socket_keeper: None,
    };
    let error = NginxBackend::open(options).await.expect_err("refused").to_string();
    assert!(error.contains(&std::process::id().to_string()), "{error}");
    assert!(bench.backend().capabilities().description.starts_with("NGINX 1."));
    eventually("it is said that NGINX does not run", async || {
        let observed = bench.backend().observe().await;
        observed.is_ok_and(|observed| !observed.healthy && observed.detail.contains("does not run"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_binary_takes_over_from_the_one_that_runs() {
    let choices = nginxes();
    let [first, second] = choices.as_slice() else { return };
    for (before, after) in [(first, second), (second, first)] {
        let mut bench = Bench::open(before.clone()).await;
        let home = own_address();
        let (one, a) = (server("one", home), SocketAddr::new(home, free_port(home)));
        bench.apply(&[both("a", a, &[one])]).await;
        let held = TcpStream::connect(a).expect("connected");
        assert_eq!(read_name(&held), "one");
        bench.choice = after.clone();
        bench.restart().await;
        let report = bench.apply(&[both("a", a, &[one])]).await;
        assert_eq!((report.action, report.refused.len()), (Action::Upgraded, 0));
        assert_eq!(answers(a), named("one"));
        let master = bench.nginx().status().await.expect("it runs");
        assert_eq!(master.runs(bench.backend().binary()), Some(true));
        assert!(is_alive(held));
        bench.stop().await;
    }
}
