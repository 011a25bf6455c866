//! Stalls of control's own and crowds before its door: who goes on beating does not expire.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use e2e::beats::{beat, crowd, raise_descriptor_limit};
use e2e::loop_bench::LoopBench;
use rustix::process::Signal;
use serde_json::json;
use testkit::client::{connect, connect_from};
use testkit::host::Host;
use testkit::ports::free_address;
use testkit::process::{command, command_with_descriptors};
use testkit::wait::within;
use testkit::{Folder, LONG, Program, skipped, until};

/// Longer than a crowd takes to come.
const TTL: Duration = Duration::from_secs(5);
/// Longer than the TTL.
const STALL: Duration = Duration::from_secs(8);
/// How long an agent waits until its next beat.
const BEAT: Duration = Duration::from_millis(500);
const AGENTS: u8 = 4;
const EXPIRED: &str = "no heartbeat within its TTL";

fn bench() -> LoopBench {
    LoopBench::start(json!({ "runtime_ttl_sec": TTL.as_secs(), "expiry_freeze": false }))
}

fn backend(agent: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, agent], 9001))
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Agents of `control` beat while `play` lasts, each on a new connection every time, and for a TTL more;
/// none of them may expire, and one that falls silent then does. How many beats were answered.
fn agents_beat_while(
    control: SocketAddr,
    program: &mut Program,
    play: impl FnOnce(&mut Program),
) -> u64 {
    let (stopping, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    for agent in 1..=AGENTS {
        assert!(beat(control, backend(agent)));
    }
    std::thread::scope(|scope| {
        for agent in 1..=AGENTS {
            let (stopping, answered) = (&stopping, &answered);
            scope.spawn(move || {
                while !stopping.load(Relaxed) {
                    answered.fetch_add(u64::from(beat(control, backend(agent))), Relaxed);
                    std::thread::sleep(BEAT);
                }
            });
        }
        // Also where something below panics: the scope waits for the agents.
        let stop = Stop(&stopping);
        play(program);
        // Whoever is to expire by mistake does by then.
        std::thread::sleep(TTL + BEAT);
        assert_eq!(program.count_lines(EXPIRED), 0, "expired");
        drop(stop);
    });
    until("the silent expire", LONG, || {
        let expired = program.count_lines(EXPIRED);
        (expired == usize::from(AGENTS)).then_some(())
    });
    answered.into_inner()
}

#[test]
fn a_stall_of_control_expires_nobody_who_goes_on_beating() {
    let mut bench = bench();
    agents_beat_while(bench.control.addr, &mut bench.control.program, |program| {
        program.signal(Signal::STOP);
        std::thread::sleep(STALL);
        program.signal(Signal::CONT);
    });
    bench.control.program.wait_for_line("all TTLs restarted");
}

#[test]
fn without_descriptors_nobody_expires_who_goes_on_beating() {
    let mut bench = bench();
    agents_beat_while(bench.control.addr, &mut bench.control.program, |program| {
        program.limit_descriptors(3);
        program.wait_for_line("not all connections are accepted");
        std::thread::sleep(STALL);
        program.limit_descriptors(4096);
        program.wait_for_line("all connections are accepted again");
        assert!(program.count_lines("not all connections are accepted") < 20);
    });
}

/// More connections than control takes, each of which begins a request, sends `more` behind its first
/// line and the host, and then nothing.
fn who_sends_no_whole_request_keeps_no_agent_out(line: &str, more: &str) {
    raise_descriptor_limit();
    let mut bench = bench();
    let control = bench.control.addr;
    let begin = &format!("{line}\r\nhost: {control}{more}");
    let mut kept = connect(control).expect("connected");
    assert!(is_answered(&mut kept, control));
    let answered = agents_beat_while(control, &mut bench.control.program, |_| {
        let began = Instant::now();
        let mut crowd = crowd(control, begin);
        // They stay, and more come again and again.
        while began.elapsed() < STALL {
            for _ in 0..100 {
                let again = connect_from(Ipv4Addr::new(127, 0, 0, 7), control);
                let mut again = again.expect("the kernel answers");
                // It may have been closed for another one by now.
                let _ = again.write_all(begin.as_bytes());
                crowd.push(again);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert!(answered > u64::from(AGENTS) * 4, "{answered} beats");
    assert!(is_answered(&mut kept, control), "who has asked is kept");
}

#[test]
fn silent_connections_of_a_few_addresses_keep_no_agent_out() {
    who_sends_no_whole_request_keeps_no_agent_out("GET / HTTP/1.1", "");
}

/// Anybody may send the body of a request to sign in.
#[test]
fn bodies_that_never_come_keep_no_agent_out() {
    who_sends_no_whole_request_keeps_no_agent_out(
        "POST /api/v1/session HTTP/1.1",
        "\r\ncontent-length: 99\r\n\r\n{",
    );
}

#[test]
fn while_all_connections_are_being_answered_nobody_expires() {
    /// So many leave room for 64 connections.
    const DESCRIPTORS: u64 = 128;
    const CROWD: u8 = 64;
    let folder = Folder::new();
    let control = free_address();
    folder.write_control_config(&json!({
        "host": control.ip(), "port": control.port(), "expiry_freeze": false,
        "default_listen_port": free_address().port(), "runtime_ttl_sec": TTL.as_secs(),
    }));
    let mut command = command_with_descriptors("control_server", DESCRIPTORS);
    command.args(["--root", folder.root_argument()]);
    let mut program = Program::spawn(command);
    until("control serves", LONG, || {
        beat(control, backend(1)).then_some(())
    });
    agents_beat_while(control, &mut program, |program| {
        // An answer that never ends.
        let begin = format!("GET /api/v1/events HTTP/1.1\r\nhost: {control}\r\n\r\n");
        // No address may have more than half of them.
        let crowd: Vec<TcpStream> = (0..CROWD)
            .map(|number| {
                let from = Ipv4Addr::new(127, 0, 0, 10 + number % 4);
                let mut stream = connect_from(from, control).expect("the kernel answers");
                stream.write_all(begin.as_bytes()).expect("sent");
                stream
            })
            .collect();
        program.wait_for_line("not all connections are accepted");
        std::thread::sleep(STALL);
        drop(crowd);
        program.wait_for_line("all connections are accepted again");
    });
}

/// A client of IPv6 has a whole /64 of addresses, and is one client all the same.
#[test]
fn unfinished_requests_from_many_addresses_of_one_network_keep_nobody_out() {
    /// More than control takes of one client, and fewer than of all.
    const CROWD: u128 = 1_500;
    const NETWORK: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x64, 0, 0, 0, 0, 0, 0);
    raise_descriptor_limit();
    let Some(host) = Host::new() else {
        return skipped("a network namespace cannot be made here");
    };
    host.own_network(&format!("{NETWORK}/64"));
    let folder = Folder::new();
    let control = SocketAddr::from((Ipv6Addr::LOCALHOST, free_address().port()));
    folder.write_control_config(&json!({
        "host": control.ip(), "port": control.port(), "expiry_freeze": false,
        "default_listen_port": free_address().port(), "runtime_ttl_sec": TTL.as_secs(),
    }));
    let mut command = command("control_server");
    command.args(["--root", folder.root_argument()]);
    let program = Program::spawn(host.run(&command));
    let playing = std::thread::spawn(move || {
        host.enter();
        until("control serves", LONG, || {
            beat(control, backend(1)).then_some(())
        });
        let mut crowd: Vec<TcpStream> = (1..=CROWD)
            .map(|number| {
                let ip = Ipv6Addr::from_bits(NETWORK.to_bits() + number);
                let mut stream = connect_from(ip, control).expect("the kernel answers");
                // It may have been closed for another one by now.
                let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: ");
                stream
            })
            .collect();
        let began = Instant::now();
        // Which ones depends on how far control has read of each.
        let mut closed_some = || {
            crowd.iter_mut().any(|stream| {
                stream.set_nonblocking(true).expect("a socket");
                let read = stream.read(&mut [0; 64]);
                !read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
            })
        };
        let is_one_client = within(Duration::from_secs(5), || closed_some().then_some(()));
        assert!(is_one_client.is_some(), "all of them are one client");
        while began.elapsed() < TTL + BEAT {
            assert!(beat(control, backend(1)), "an agent is served");
            std::thread::sleep(BEAT);
        }
        host
    });
    playing.join().expect("agents are served");
    assert_eq!(program.count_lines(EXPIRED), 0, "expired");
}

/// Asks on a kept connection.
fn is_answered(stream: &mut TcpStream, control: SocketAddr) -> bool {
    let request = format!("GET /livez HTTP/1.1\r\nhost: {control}\r\n\r\n");
    let mut answer = [0; 12];
    within(LONG, || {
        stream.write_all(request.as_bytes()).ok()?;
        stream.read_exact(&mut answer).ok()?;
        let rest = stream.read(&mut [0; 4096]).ok()?;
        (rest > 0).then_some(answer.starts_with(b"HTTP/1.1 200"))
    })
    .unwrap_or(false)
}

#[test]
fn a_crowd_leaves_descriptors_for_files_where_there_are_few() {
    const DESCRIPTORS: u64 = 128;
    const CROWD: usize = 300;
    let folder = Folder::new();
    let control = free_address();
    folder.write_control_config(&json!({
        "host": control.ip(), "port": control.port(),
        "default_listen_port": free_address().port(),
    }));
    let mut command = command_with_descriptors("control_server", DESCRIPTORS);
    command.args(["--root", folder.root_argument()]);
    let program = Program::spawn(command);
    until("control serves", LONG, || {
        beat(control, backend(1)).then_some(())
    });
    let _crowd: Vec<TcpStream> = (0..CROWD)
        .map(|_| connect(control).expect("the kernel answers"))
        .collect();
    for agent in 2..=AGENTS {
        until("an agent is served", LONG, || {
            beat(control, backend(agent)).then_some(())
        });
    }
    until("all are published", LONG, || {
        let published = folder.proxy_config()?["backends"].as_array()?.len();
        (published == usize::from(AGENTS)).then_some(())
    });
    assert_eq!(program.count_lines("Too many open files"), 0);
}
