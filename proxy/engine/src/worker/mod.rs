//! A worker: one thread with its own poller, listeners, sessions and flows, sharing nothing on the
//! path but the backends' counts.

pub mod backend_gone;
pub mod context;
pub mod counters;
pub mod listings;
pub mod mailbox;
pub mod meters;
pub mod poller;
pub mod scoring_bell;
pub mod session_log;
pub mod sweep;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use proxy_core::plan::{Endpoint, Protocol};
use proxy_core::retirement::{EndpointUse, Life};
use proxy_core::session::relay::Side;
use proxy_core::snapshot::Snapshot;
use proxy_sys::datagrams::Receiver;

use self::context::{Context, Parts};
use self::listings::Listings;
use self::mailbox::{Ack, Command, Mailbox};
use self::poller::{Event, Events, Interest, Token};
use crate::datagram::flows::Flows;
use crate::stream::accept::Listeners;
use crate::stream::sessions::Sessions;

pub struct Worker {
    context: Context,
    mailbox: Arc<Mailbox>,
    listeners: Listeners,
    sessions: Sessions,
    flows: Flows,
    receiver: Receiver,
    listings: Listings,
    is_stopped: bool,
}

impl Worker {
    pub fn new(parts: Parts, mailbox: Arc<Mailbox>) -> rustix::io::Result<Worker> {
        let most_pipes = parts.most_pipes;
        let context = Context::new(parts)?;
        context
            .poller
            .watch(&mailbox, Token::Mailbox, Interest::Arrivals)?;
        let sessions = Sessions::new(context.now_ms(), most_pipes);
        let flows = Flows::new(&context);
        let (listeners, receiver) = (Listeners::default(), Receiver::new());
        Ok(Worker {
            context,
            mailbox,
            listeners,
            sessions,
            flows,
            receiver,
            listings: Listings::default(),
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
            self.sessions.run_unfinished(&mut self.context);
            // Priority 3: datagrams, which make new flows.
            self.flows.run_ready(&mut self.context, &mut self.receiver);
            // Priority 4: timers, which may free what the next step needs.
            self.sessions.run_timers(&mut self.context);
            self.flows.run_timers(&mut self.context);
            let ended = self.sessions.reap();
            // Priority 5: new sessions.
            self.listeners
                .accept(&mut self.context, &mut self.sessions, ended > 0);
            self.sessions.reap();
            // Priority 6: what somebody asked for.
            self.list_part();
        }
    }

    /// How long nothing needs to be done unless an event comes; `None`: for ever.
    fn timeout_ms(&self) -> Option<u64> {
        let has_unfinished = self.sessions.has_unfinished() || self.flows.has_unfinished();
        if has_unfinished || self.listings.is_any_under_way() {
            return Some(0);
        }
        let wakeups = [
            self.sessions.next_wakeup_ms(),
            self.flows.next_wakeup_ms(&self.context),
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
        let (context, sessions) = (&mut self.context, &mut self.sessions);
        let mut of_session = |index, side| sessions.event(context, index, side, event.readiness());
        match event.token() {
            Token::Mailbox => {}
            Token::TcpListener(index) => self.listeners.event(index),
            Token::UdpListener(index) => self.flows.listeners.event(index),
            Token::ClientOf(index) => of_session(index, Side::Client),
            Token::BackendOf(index) => of_session(index, Side::Backend),
            Token::Flow(index) => {
                let context = &mut self.context;
                self.flows.flow_event(context, &mut self.receiver, index);
            }
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
        tcp.chain(self.flows.listeners.lives_at(endpoint))
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Install(snapshot) => self.install(snapshot),
            Command::Open {
                endpoint,
                socket,
                in_use,
            } => self.open(endpoint, socket, in_use),
            Command::Retire(endpoint) => {
                let now_ms = self.context.now_ms();
                self.lives_at(endpoint).for_each(|life| life.retire(now_ms));
            }
            Command::Revive(endpoint) => self.lives_at(endpoint).for_each(Life::revive),
            Command::Close(endpoint) => match endpoint.protocol {
                Protocol::Tcp => self.listeners.close(&self.context, endpoint),
                Protocol::Udp => self.flows.close(&mut self.context, endpoint),
            },
            Command::List { wanted, answer } => self.listings.begin(wanted, answer),
            Command::End { id, has_ended } => {
                let context = &mut self.context;
                let has_this_ended = match id.protocol {
                    Protocol::Tcp => self.sessions.end_one(context, id),
                    Protocol::Udp => self.flows.end_one(context, id),
                };
                has_ended.store(has_this_ended, Relaxed);
            }
            Command::Stop => {
                self.sessions.stop(&mut self.context);
                self.flows.stop(&mut self.context);
                self.is_stopped = true;
            }
        }
    }

    /// Looks at a part of the sessions or flows for a list.
    fn list_part(&mut self) {
        let (sessions, flows) = (self.sessions.places(), self.flows.places());
        let Some(part) = self.listings.part(sessions, flows) else {
            return;
        };
        let context = &self.context;
        self.sessions.list(context, part.sessions, part.listing);
        self.flows.list(context, part.flows, part.listing);
        self.listings.part_is_done();
    }

    /// Routes by `snapshot` from now on.
    fn install(&mut self, snapshot: Arc<Snapshot>) {
        let context = &mut self.context;
        let metered_otherwise = context.snapshot.metered_otherwise(&snapshot);
        if !metered_otherwise.is_empty() {
            self.sessions.forget_meters(&metered_otherwise);
            self.flows.forget_meters(&metered_otherwise);
        }
        context.snapshot = snapshot;
        self.listeners.reroute(&context.snapshot);
        self.flows.listeners.reroute(&context.snapshot);
        let open = self.listeners.open_for();
        context.hold_listeners(open.chain(self.flows.listeners.open_for()));
        self.sessions.backends_changed(context);
        self.flows.backends_changed(context);
        // Sessions have waited for this since the events came.
        let begun_us = context.now_us;
        context.update_time();
        let stall_us = context.now_us - begun_us;
        context.counters.reload_stall_us.store(stall_us, Relaxed);
    }

    /// Accepts on `socket`.
    fn open(&mut self, endpoint: Endpoint, socket: OwnedFd, in_use: Arc<EndpointUse>) {
        let context = &mut self.context;
        let Some(listener) = context.snapshot.listener_at(endpoint, None) else {
            // The snapshot of a configuration comes before what it opens.
            tracing::error!(addr = %endpoint.addr, "no listener has this address");
            return;
        };
        let opened = match endpoint.protocol {
            Protocol::Tcp => {
                let listeners = &mut self.listeners;
                listeners.open(context, endpoint, listener, socket, in_use)
            }
            Protocol::Udp => self.flows.open(context, endpoint, listener, socket, in_use),
        };
        if let Err(error) = opened {
            // Only for want of kernel memory; the other workers' sockets still serve.
            tracing::error!(addr = %endpoint.addr, %error, "cannot watch a listener");
        }
    }
}
