//! A worker: one thread with its own poller, listeners, sessions and flows, sharing nothing on the
//! path but the backends' counts.

pub mod context;
pub mod counters;
pub mod gone;
pub mod mailbox;
pub mod meters;
pub mod poller;
pub mod scoring_bell;
pub mod session_log;
pub mod sweep;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use proxy_core::plan::{Endpoint, Protocol};
use proxy_core::retirement::Life;
use proxy_sys::datagrams::Receiver;

use self::context::{Context, Parts};
use self::mailbox::{Ack, Command, Mailbox};
use self::poller::{Event, Events, Interest, Token};
use crate::datagram::flows::Udp;
use crate::stream::accept::Listeners;
use crate::stream::sessions::Tcp;

pub struct Worker {
    context: Context,
    mailbox: Arc<Mailbox>,
    listeners: Listeners,
    tcp: Tcp,
    udp: Udp,
    receiver: Receiver,
    is_stopped: bool,
}

impl Worker {
    pub fn new(parts: Parts, mailbox: Arc<Mailbox>) -> rustix::io::Result<Worker> {
        let most_pipes = parts.most_pipes;
        let context = Context::new(parts)?;
        context
            .poller
            .watch(&mailbox, Token::Mailbox, Interest::Arrivals)?;
        let tcp = Tcp::new(context.now_ms(), most_pipes);
        let udp = Udp::new(&context);
        let (listeners, receiver) = (Listeners::default(), Receiver::new());
        Ok(Worker {
            context,
            mailbox,
            listeners,
            tcp,
            udp,
            receiver,
            is_stopped: false,
        })
    }

    /// Runs until told to stop. Each turn, in this order:
    pub fn run(mut self) {
        let mut events = Events::default();
        loop {
            let timeout_ms = self.timeout_ms();
            self.context.wait(&mut events, timeout_ms);
            // Priority 1: commands, so that what follows goes by the newest snapshot.
            if events.iter().any(|event| event.token() == Token::Mailbox) {
                self.carry_out_commands();
                if self.is_stopped {
                    return;
                }
            }
            // Priority 2: open sessions and flows.
            events.iter().for_each(|event| self.dispatch(event));
            self.tcp.run_unfinished(&mut self.context);
            // Priority 3: datagrams, which make new flows.
            self.udp.run_ready(&mut self.context, &mut self.receiver);
            // Priority 4: timers, which may free what the next step needs.
            self.tcp.run_timers(&mut self.context);
            self.udp.run_timers(&mut self.context);
            let ended = self.tcp.reap();
            // Priority 5: new sessions.
            self.listeners
                .accept(&mut self.context, &mut self.tcp, ended > 0);
            self.tcp.reap();
        }
    }

    /// How long nothing needs to be done unless an event comes; `None`: for ever.
    fn timeout_ms(&self) -> Option<u64> {
        if self.tcp.has_unfinished() || self.udp.has_unfinished() {
            return Some(0);
        }
        let wakeups = [
            self.tcp.next_wakeup_ms(),
            self.udp.next_wakeup_ms(&self.context),
            self.listeners.next_wakeup_ms(),
        ];
        let next_ms = wakeups.into_iter().flatten().min()?;
        // A deadline within the current millisecond has to be slept through, not spun through.
        Some(
            next_ms
                .checked_sub(self.context.now_ms())
                .map_or(0, |wait_ms| wait_ms + 1),
        )
    }

    fn dispatch(&mut self, event: Event) {
        let context = &mut self.context;
        match event.token() {
            Token::Mailbox => {}
            Token::TcpListener(index) => self.listeners.event(index),
            Token::UdpListener(index) => self.udp.listeners.event(index),
            Token::ClientOf(index) => self.tcp.client_event(context, index, event.readiness()),
            Token::BackendOf(index) => self.tcp.backend_event(context, index, event.readiness()),
            Token::Flow(index) => self.udp.flow_event(context, &mut self.receiver, index),
        }
    }

    fn carry_out_commands(&mut self) {
        for (commands, ack) in self.mailbox.take() {
            commands
                .into_iter()
                .for_each(|command| self.carry_out(command));
            drop::<Ack>(ack);
        }
    }

    /// Of each socket of `endpoint`.
    fn lives_at(&mut self, endpoint: Endpoint) -> impl Iterator<Item = &mut Life> {
        let tcp = self.listeners.lives_at(endpoint);
        tcp.chain(self.udp.listeners.lives_at(endpoint))
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Install(snapshot) => {
                let metered_otherwise = self.context.snapshot.metered_otherwise(&snapshot);
                if !metered_otherwise.is_empty() {
                    self.tcp.forget_meters(&metered_otherwise);
                    self.udp.forget_meters(&metered_otherwise);
                }
                self.context.snapshot = snapshot;
                self.listeners.reroute(&self.context.snapshot);
                self.udp.listeners.reroute(&self.context.snapshot);
                let open = self
                    .listeners
                    .open_for()
                    .chain(self.udp.listeners.open_for());
                self.context.hold_listeners(open);
                self.tcp.backends_changed(&self.context);
                self.udp.backends_changed(&self.context);
                // Sessions have waited for this since the events came.
                let begun_us = self.context.now_us;
                self.context.update_time();
                let stall_us = self.context.now_us - begun_us;
                self.context
                    .counters
                    .reload_stall_us
                    .store(stall_us, Relaxed);
            }
            Command::Open {
                endpoint,
                socket,
                in_use,
            } => {
                let Some(serving) = self.context.snapshot.serving(endpoint, None) else {
                    // The snapshot of a configuration comes before what it opens.
                    tracing::error!(addr = %endpoint.addr, "no listener has this address");
                    return;
                };
                let context = &mut self.context;
                let opened = match endpoint.protocol {
                    Protocol::Tcp => self
                        .listeners
                        .open(context, endpoint, serving, socket, in_use),
                    Protocol::Udp => self.udp.open(context, endpoint, serving, socket, in_use),
                };
                if let Err(error) = opened {
                    // Only for want of kernel memory; the other workers' sockets still serve.
                    tracing::error!(addr = %endpoint.addr, %error, "cannot watch a listener");
                }
            }
            Command::Retire(endpoint) => {
                let now_ms = self.context.now_ms();
                self.lives_at(endpoint).for_each(|life| life.retire(now_ms));
            }
            Command::Revive(endpoint) => self.lives_at(endpoint).for_each(Life::revive),
            Command::Close(endpoint) => match endpoint.protocol {
                Protocol::Tcp => self.listeners.close(&self.context, endpoint),
                Protocol::Udp => self.udp.close(&mut self.context, endpoint),
            },
            Command::Stop => {
                self.tcp.stop(&mut self.context);
                self.udp.stop(&mut self.context);
                self.is_stopped = true;
            }
        }
    }
}
