//! Moves the bytes of one half between the two ends of a session, as its state machine asks: by copying through
//! the worker's buffer, or by `splice(2)` through a pipe.

use proxy_core::session::half::End;
use proxy_core::session::run::{Move, Moved, Run};
use rustix::io::Errno;
use rustix::net::sockopt;

use super::pipes::{Pipe, Pipes};
use super::transport::{Transport, break_of};

/// Bytes that were read and could not be written yet.
#[derive(Debug, Default)]
pub enum Store {
    #[default]
    Empty,
    /// `bytes[start..]` is pending. Only a session with a slow sink owns one.
    Buffer { bytes: Box<[u8]>, start: usize },
    /// The half splices through this pipe, which it has for as long as bytes are in it.
    Pipe(Pipe),
}

/// A run of one half with the ends it connects.
pub struct Direction<'a> {
    pub run: Run<'a>,
    pub store: &'a mut Store,
    pub source: &'a mut Transport,
    pub sink: &'a mut Transport,
}

impl Direction<'_> {
    /// Moves bytes until there is nothing to do now.
    pub fn carry_out(mut self, buffer: &mut [u8], pipes: &mut Pipes) -> Moved {
        while let Some(next) = self.run.next_move() {
            match next {
                Move::Copy { limit } => self.copy(&mut buffer[..limit]),
                Move::Splice { limit } => self.splice(limit, pipes),
                Move::Flush => self.flush(),
                Move::Shut => self.sink.shut(),
                Move::ReleasePipe => self.put_pipe_back(pipes),
            }
        }
        if self.run.pending() == 0 {
            // A stream that pauses, or one way of a session that goes on the other, needs none.
            self.put_pipe_back(pipes);
        }
        self.run.done()
    }

    /// Where nothing is pending, the store is empty or an empty pipe.
    fn put_pipe_back(&mut self, pipes: &mut Pipes) {
        if let Store::Pipe(pipe) = std::mem::take(self.store) {
            pipes.put_back(pipe);
        }
    }

    fn copy(&mut self, buffer: &mut [u8]) {
        let count = match self.source.read(buffer) {
            Ok(0) => return self.run.source_ended(End::Eof),
            Ok(count) => count,
            Err(error) => return self.read_failed(error),
        };
        self.run.read(count, buffer.len());
        if let Some(written) = self.write(&buffer[..count])
            && written < count
        {
            *self.store = Store::Buffer {
                bytes: buffer[written..count].into(),
                start: 0,
            };
        }
    }

    /// Writes what the sink takes now; `None` where it is gone. A partial write means that it takes no
    /// more.
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let written = match self.sink.write(bytes) {
            Ok(written) => written,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => {
                self.run.sink_failed(break_of(error));
                return None;
            }
        };
        self.run.wrote(written);
        if written < bytes.len() {
            self.run.sink_blocked();
        }
        Some(written)
    }

    fn splice(&mut self, limit: usize, pipes: &mut Pipes) {
        let pipe = match std::mem::take(self.store) {
            Store::Pipe(pipe) => Some(pipe),
            Store::Empty | Store::Buffer { .. } if self.can_splice() => pipes.take(),
            Store::Empty | Store::Buffer { .. } => None,
        };
        match pipe {
            Some(pipe) => {
                self.fill_pipe(&pipe, limit);
                *self.store = Store::Pipe(pipe);
            }
            None => self.run.cannot_splice(),
        }
    }

    fn can_splice(&self) -> bool {
        self.source.can_splice() && self.sink.can_splice()
    }

    fn fill_pipe(&mut self, pipe: &Pipe, limit: usize) {
        match self.source.splice_to(pipe, limit) {
            // The end, or a mark of urgent data with the end behind it, at which a splice stops for
            // good, and which nobody tells of while arrivals are not told: a read will say.
            Ok(0) => {
                // Refused only by a socket that is closed already.
                let _ = sockopt::set_socket_oobinline(&*self.source, true);
                self.run.source_urgent();
            }
            Ok(count) => self.run.read(count, limit),
            Err(error) => self.read_failed(error),
        }
    }

    fn read_failed(&mut self, error: Errno) {
        match error {
            Errno::AGAIN => self.run.source_blocked(),
            Errno::INTR => {}
            _ => self.run.source_ended(End::Broken(break_of(error))),
        }
    }

    fn flush(&mut self) {
        match std::mem::take(self.store) {
            Store::Pipe(pipe) => {
                self.drain_pipe(&pipe);
                *self.store = Store::Pipe(pipe);
            }
            Store::Buffer { bytes, start } => {
                if let Some(written) = self.write(&bytes[start..]) {
                    let start = start + written;
                    if start < bytes.len() {
                        *self.store = Store::Buffer { bytes, start };
                    }
                }
            }
            Store::Empty => unreachable!("pending bytes are stored"),
        }
    }

    fn drain_pipe(&mut self, pipe: &Pipe) {
        match self.sink.splice_from(pipe, self.run.pending()) {
            // A pipe with a living writing end never reports its end, so 0 cannot be that.
            Ok(0) | Err(Errno::AGAIN) => self.run.sink_blocked(),
            // Less than all does not say that the sink is full: a signal ends a splice early, too.
            Ok(count) => self.run.wrote(count),
            Err(Errno::INTR) => {}
            Err(error) => self.run.sink_failed(break_of(error)),
        }
    }
}

impl Store {
    /// Gives a pipe back when its session ends with `pending` bytes in it.
    pub fn release(self, pending: usize, pipes: &mut Pipes) {
        match self {
            Store::Pipe(pipe) if pending == 0 => pipes.put_back(pipe),
            Store::Pipe(_) => pipes.lost(),
            Store::Buffer { .. } | Store::Empty => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    use proxy_core::session::half::{Half, Mode, Step};
    use proxy_core::session::run::Stopped;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use socket2::SockRef;

    use super::*;

    const BYTES: usize = 40_000;
    const BUFFER: usize = 64 << 10;

    /// Two ends of a connection; what is written to the first is read from the second, whose
    /// receive buffer is as small as the system allows where it `is_narrow`.
    fn connection(is_narrow: bool) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        if is_narrow {
            let listener = SockRef::from(&listener);
            listener.set_recv_buffer_size(1).expect("a buffer");
        }
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("a connection");
        let (far, _) = listener.accept().expect("accepted");
        (near, far)
    }

    /// A half whose client sends as the test says, and whose backend reads all.
    struct Stream {
        half: Half,
        store: Store,
        client: TcpStream,
        source: Transport,
        sink: Transport,
    }

    fn plain(socket: TcpStream) -> Transport {
        Transport::Plain(OwnedFd::from(socket))
    }

    impl Stream {
        fn start() -> Stream {
            let (client, source) = connection(false);
            let (sink, mut backend) = connection(false);
            for socket in [&source, &sink] {
                socket.set_nonblocking(true).expect("it is a socket");
            }
            std::thread::spawn(move || std::io::copy(&mut backend, &mut std::io::sink()));
            Stream {
                half: Half::default(),
                store: Store::default(),
                client,
                source: plain(source),
                sink: plain(sink),
            }
        }

        /// Until all that has arrived is passed on.
        fn run(&mut self, pipes: &mut Pipes) {
            self.half.source_ready(false);
            while self.half.step() != Step::Wait || self.half.pending() > 0 {
                self.half.sink_ready();
                let direction = Direction {
                    run: Run::new(&mut self.half, false),
                    store: &mut self.store,
                    source: &mut self.source,
                    sink: &mut self.sink,
                };
                direction.carry_out(&mut vec![0; BUFFER], pipes);
            }
        }

        /// Sends much, and tells whether that was spliced at the end.
        fn is_spliced(&mut self, pipes: &mut Pipes) -> bool {
            let bytes = vec![7; BUFFER];
            for _ in 0..16 {
                self.client.write_all(&bytes).expect("it is read");
                self.run(pipes);
            }
            self.half.mode() == Mode::Splice
        }
    }

    #[test]
    fn a_stream_that_pauses_leaves_its_pipe_to_others() {
        let mut only_one = Pipes::new(1);
        let mut streams = [Stream::start(), Stream::start()];
        for round in 0..2 {
            for stream in &mut streams {
                assert!(stream.is_spliced(&mut only_one), "round {round}");
            }
        }
    }

    #[test]
    fn stored_bytes_reach_a_sink_in_order_that_takes_a_few_at_a_time() {
        let sent: Vec<u8> = (0..BYTES).map(|at| (at / 256 + at) as u8).collect();
        let (mut client, source) = connection(false);
        let (sink, mut backend) = connection(true);
        let few = SockRef::from(&sink);
        few.set_send_buffer_size(1).expect("a buffer");
        client.write_all(&sent).expect("written");
        drop(client);

        let (mut source, mut sink) = (plain(source), plain(sink));
        let (mut half, mut store) = (Half::default(), Store::default());
        let (mut buffer, mut pipes) = (vec![0; BUFFER], Pipes::new(0));
        let mut received = Vec::new();
        let mut flushes_in_part = 0;
        for _ in 0..1_000 {
            half.source_ready(false);
            half.sink_ready();
            let direction = Direction {
                run: Run::new(&mut half, false),
                store: &mut store,
                source: &mut source,
                sink: &mut sink,
            };
            let moved = direction.carry_out(&mut buffer, &mut pipes);
            if let Stopped::SourceEnded(end) = moved.stopped {
                half.source_ended(end);
            }
            flushes_in_part += usize::from(matches!(store, Store::Buffer { start: 1.., .. }));
            let mut some = [0; 1_000];
            let mut arrived = [PollFd::new(&backend, PollFlags::IN)];
            let soon = Timespec {
                tv_sec: 0,
                tv_nsec: 1_000_000,
            };
            if poll(&mut arrived, Some(&soon)).expect("polled") > 0 {
                let count = backend.read(&mut some).expect("read");
                received.extend_from_slice(&some[..count]);
            }
        }
        assert!(
            half.is_done(),
            "not at its end after so many turns: {half:?}"
        );
        backend.read_to_end(&mut received).expect("the rest");
        assert!(
            received == sent,
            "{} bytes arrived, or others",
            received.len()
        );
        assert!(flushes_in_part > 1, "{flushes_in_part} flushes in part");
    }
}
