//! The GPU agent beside an engine that misbehaves: what it says is right within three beats, it asks one
//! thing at a time, and its memory does not follow what it is answered.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::{RecvFlags, Shutdown};
use serde_json::{Value, json};
use testkit::ports::free_address;
use testkit::{LONG, Program, Server, until};

/// The queue is 3.
const VLLM: &str = include_str!("../../agent/tests/fixtures/vllm_0.11.txt");
/// The most that the agent may ever use.
const MOST_BYTES: u64 = 16 << 20;
/// How many bytes a huge answer has at least.
const HUGE_BYTES: usize = 64 << 20;
const BEATS: usize = 3;

/// What an engine does with each request.
#[derive(Clone)]
enum Mood {
    Whole(String),
    Status(u16),
    /// Nothing, until its mood changes; then the answer comes after all.
    Hang,
    /// A byte now and then.
    Drip,
    /// The text, and then lines like this one, 64 MB of them.
    Huge(String, &'static str),
}

/// A vLLM of any mood. Its port refuses once it is dropped.
struct Engine {
    addr: SocketAddr,
    shared: Arc<Shared>,
    listener: TcpListener,
}

struct Shared {
    mood: Mutex<Mood>,
    /// Those who have asked and not been answered.
    waiting: Mutex<Vec<TcpStream>>,
    most_waiting: AtomicUsize,
    /// For its metrics.
    asked: AtomicUsize,
}

impl Shared {
    fn mood(&self) -> Mood {
        self.mood.lock().expect("no panic").clone()
    }
}

impl Engine {
    fn start_at(addr: SocketAddr, mood: Mood) -> Engine {
        let listener = TcpListener::bind(addr).expect("a free port");
        let shared = Arc::new(Shared {
            mood: Mutex::new(mood),
            waiting: Mutex::new(Vec::new()),
            most_waiting: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        });
        let engine = Engine {
            addr,
            shared: Arc::clone(&shared),
            listener: listener.try_clone().expect("a descriptor is free"),
        };
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let shared = Arc::clone(&shared);
                // Who breaks off is the agent, and as it should.
                thread::spawn(move || serve(stream, &shared));
            }
        });
        engine
    }

    fn set(&self, mood: Mood) {
        *self.shared.mood.lock().expect("no panic") = mood;
    }

    fn most_waiting(&self) -> usize {
        self.shared.most_waiting.load(Relaxed)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // On Linux this wakes a thread that waits in accept(2).
        let _ = rustix::net::shutdown(&self.listener, Shutdown::Both);
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> Option<()> {
    let mut line = String::new();
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    lines.read_line(&mut line).ok()?;
    let mut rest = String::new();
    while lines.read_line(&mut rest).ok()? > 2 {}
    {
        let mut waiting = shared.waiting.lock().expect("no panic");
        // The agent closes one before it opens the next, and here that is seen at once.
        waiting.retain(is_open);
        waiting.push(stream.try_clone().ok()?);
        shared.most_waiting.fetch_max(waiting.len(), Relaxed);
    }
    let is_scrape = usize::from(line.contains("/metrics"));
    shared.asked.fetch_add(is_scrape, Relaxed);
    answer(&mut stream, &line, shared);
    // Closed, so that it is no longer counted.
    let _ = stream.shutdown(std::net::Shutdown::Both);
    let own = stream.peer_addr().ok();
    let mut waiting = shared.waiting.lock().expect("no panic");
    waiting.retain(|other| other.peer_addr().ok() != own && is_open(other));
    Some(())
}

fn is_open(stream: &TcpStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let peeked = rustix::net::recv(stream, &mut [0; 1][..], flags);
    matches!(peeked, Err(rustix::io::Errno::AGAIN))
}

/// `None` where the client broke off.
fn answer(stream: &mut TcpStream, line: &str, shared: &Shared) -> Option<()> {
    while matches!(shared.mood(), Mood::Hang) {
        is_open(stream).then_some(())?;
        thread::sleep(Duration::from_millis(5));
    }
    let is_health = line.contains("/health");
    let (status, body) = match shared.mood() {
        Mood::Whole(_) | Mood::Huge(..) | Mood::Drip if is_health => (200, String::new()),
        Mood::Whole(text) => (200, text),
        Mood::Status(status) => (status, String::new()),
        Mood::Hang => (500, String::new()),
        Mood::Drip => {
            let head = "HTTP/1.1 200 S\r\nContent-Length: 1000000\r\n\r\n";
            stream.write_all(head.as_bytes()).ok()?;
            while matches!(shared.mood(), Mood::Drip) {
                stream.write_all(b"#").ok()?;
                thread::sleep(Duration::from_millis(20));
            }
            return None;
        }
        Mood::Huge(text, line) => {
            let block = line.repeat((64 << 10) / line.len() + 1);
            let count = HUGE_BYTES / block.len() + 1;
            let length = text.len() + count * block.len() + 1;
            let head = format!("HTTP/1.1 200 S\r\nContent-Length: {length}\r\n\r\n{text}");
            stream.write_all(head.as_bytes()).ok()?;
            for _ in 0..count {
                stream.write_all(block.as_bytes()).ok()?;
            }
            return stream.write_all(b"\n").ok();
        }
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} S\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).ok()
}

/// What the agent tells control, beat by beat.
struct Beats {
    control: Server,
    agent: Program,
}

impl Beats {
    fn start(engine: &Engine, timeout_ms: &str) -> Beats {
        let control = Server::start();
        control.answer("/api/register", 200, r#"{"ok":true}"#);
        let mut command = testkit::process::command("gpu_agent");
        command.args(["--control", &control.url("")]);
        command.args(["--advertise", &free_address().to_string()]);
        command.args([
            "--source",
            "vllm",
            "--url",
            &format!("http://{}", engine.addr),
        ]);
        command.args([
            "--interval",
            "0.2",
            "--stale",
            "2",
            "--timeout-ms",
            timeout_ms,
        ]);
        Beats {
            control,
            agent: Program::spawn(command),
        }
    }

    fn all(&self) -> Vec<Value> {
        let asked = self.control.asked().into_iter();
        asked
            .map(|asked| serde_json::from_str(&asked.body).expect("JSON"))
            .collect()
    }

    /// Waits for a beat that `is` right; it has to be one of the next ones.
    #[track_caller]
    fn soon(&self, what: &str, is: impl Fn(&Value) -> bool) {
        let before = self.all().len();
        let index = until(what, LONG, || {
            let beats = self.all();
            beats[before..].iter().position(&is)
        });
        // The one that was on its way when the engine changed does not count.
        assert!(index <= BEATS, "{what}: {:?}", &self.all()[before..]);
    }

    /// The most memory that was ever resident.
    fn most_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.agent.pid()));
        let status = status.expect("our own child");
        let line = { status.lines() }.find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.trim().parse::<u64>().ok())
            .expect("a number")
            * 1024
    }
}

/// Whether a beat tells this queue as something read just now.
fn is_fresh(beat: &Value, queue: u64) -> bool {
    beat["queue"] == json!(queue) && beat["report_age_ms"].is_null()
}

/// Whether it tells nothing, or what was read earlier and when.
fn is_honest(beat: &Value) -> bool {
    beat["queue"].is_null() || beat["report_age_ms"].as_u64() >= Some(1)
}

fn is_unknown(beat: &Value) -> bool {
    let figures = ["gpu_usage", "vram_usage", "queue", "running"];
    figures.iter().all(|figure| beat[*figure].is_null())
}

#[test]
fn what_is_said_of_an_engine_is_right_within_three_beats_whatever_it_does() {
    let whole = Mood::Whole(VLLM.to_owned());
    let renamed = VLLM.replace("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc");
    let renamed = Mood::Whole(renamed.replace("vllm:", "vllm_").replace("} 3.0", "} 7.0"));
    let mut engine = Engine::start_at(free_address(), whole.clone());
    let beats = Beats::start(&engine, "500");
    beats.soon("it is read", |beat| is_fresh(beat, 3));
    let mut most_waiting = 0;
    for (name, mood) in [
        ("hangs", Mood::Hang),
        ("drips", Mood::Drip),
        ("answers 500", Mood::Status(500)),
        ("answers 401", Mood::Status(401)),
        (
            "shows nothing that is known",
            Mood::Whole("up 1\n".to_owned()),
        ),
        (
            "breaks off within a line",
            Mood::Whole(VLLM.trim_end().to_owned()),
        ),
    ] {
        engine.set(mood);
        beats.soon(name, is_honest);
        let begun = beats.all().len();
        until(name, LONG, || {
            beats.all().last().filter(|beat| is_unknown(beat)).cloned()
        });
        // The one that was read before it changed may still have been on its way.
        let said = &beats.all()[begun..];
        assert!(said.iter().skip(1).all(is_honest), "{name}: {said:?}");
        engine.set(renamed.clone());
        beats.soon("it is read under its other names", |beat| is_fresh(beat, 7));
        engine.set(whole.clone());
        beats.soon("it is read under its first names", |beat| is_fresh(beat, 3));
    }
    let addr = engine.addr;
    most_waiting = most_waiting.max(engine.most_waiting());
    drop(engine);
    beats.soon("it is gone", is_honest);
    until("it is warming up", LONG, || {
        let beats = beats.all();
        beats
            .last()
            .filter(|beat| beat["is_warming_up"] == json!(true))
            .cloned()
    });
    engine = Engine::start_at(addr, renamed);
    beats.soon("it is back, as another version", |beat| {
        is_fresh(beat, 7) && beat["is_warming_up"] == json!(false)
    });
    assert_eq!(
        most_waiting.max(engine.most_waiting()),
        1,
        "one request at a time"
    );
    let bytes = beats.most_bytes();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
}

#[test]
fn an_engine_that_was_away_for_long_is_seen_as_soon() {
    const ATTEMPTS: usize = 6;
    let engine = Engine::start_at(free_address(), Mood::Status(503));
    let beats = Beats::start(&engine, "500");
    until("it has been asked often", LONG, || {
        (engine.shared.asked.load(Relaxed) >= ATTEMPTS).then_some(())
    });
    engine.set(Mood::Whole(VLLM.to_owned()));
    beats.soon("it is read", |beat| is_fresh(beat, 3));
}

#[test]
fn answers_of_64_mb_are_read_in_a_bounded_memory() {
    let engine = Engine::start_at(free_address(), Mood::Whole(VLLM.to_owned()));
    // A debug build takes its time.
    let beats = Beats::start(&engine, "20000");
    beats.soon("it is read", |beat| is_fresh(beat, 3));
    let others =
        "vllm:request_success_total{engine=\"0\",finished_reason=\"stop\",model_name=\"m\"} 812\n";
    let changed = VLLM.replace("} 3.0", "} 5.0");
    engine.set(Mood::Huge(changed, others));
    let is_read = |queue| move |beat: &Value| beat["queue"] == json!(queue);
    let wait = |what: &str, is: &dyn Fn(&Value) -> bool| {
        until(what, 3 * LONG, || {
            beats.all().last().filter(|beat| is(beat)).cloned()
        })
    };
    wait("it is read whole", &is_read(5));
    for (name, line) in [
        ("one line of 64 MB", "x"),
        (
            "many engines",
            "vllm:num_requests_waiting{engine=\"0\"} 1\n",
        ),
        (
            "huge labels of a figure",
            "vllm:num_requests_waiting{engine=\"0\",x=\"01234567890123456789\",y=\"01234567890123456789\"} 1\n",
        ),
    ] {
        engine.set(Mood::Huge(VLLM.replace("} 3.0", "} 9.0"), line));
        let said = wait(name, &|beat| is_unknown(beat) || beat["queue"] == json!(9));
        assert!(line == "x" || is_unknown(&said), "{name}: {said}");
        engine.set(Mood::Whole(VLLM.to_owned()));
        wait("it is read again", &is_read(3));
    }
    assert_eq!(engine.most_waiting(), 1, "one request at a time");
    let bytes = beats.most_bytes();
    println!("most memory: {bytes} bytes");
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
}
