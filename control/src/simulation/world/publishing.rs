//! The publisher's turns, and a proxy that changes its mind.

use std::fs;

use serde_json::Value;

use super::super::proxy::port_of;
use super::World;

impl World {
    pub(super) async fn publish(&mut self) {
        if self.random.bool() {
            self.control().publisher.refresh().await;
            self.look_at_the_published(false);
        }
        self.control().publisher.reconcile().await;
        self.after_a_publish().await;
        let failure = self.control().outcome.borrow().failure.clone();
        let can_write = !self.broken.contains(&"config");
        assert!(failure.is_none() || !can_write, "{failure:?}");
        self.look_at_the_published(failure.is_none());
    }

    pub(super) async fn verify(&mut self) {
        self.control().publisher.verify().await;
        self.after_a_publish().await;
    }

    /// The publisher hears what the proxy made of it, and whoever waits for that goes on.
    pub(super) async fn after_a_publish(&mut self) {
        let sent = self.control().outcome.borrow().sent.clone();
        if let Some(sent) = sent.filter(|_| !self.proxy.state().is_silent) {
            // As long as it is not known what has become of one signal, no other is sent.
            let mut confirmation = sent.confirmation.clone();
            _ = confirmation.wait_for(Option::is_some).await;
        }
        self.control().publisher.look().await;
        let (port, is_silent) = {
            let proxy = self.proxy.state();
            (proxy.port, proxy.is_silent)
        };
        if !is_silent {
            self.oracle.accepted_port = port;
        }
        self.resume().await;
        self.control().publisher.reconcile().await;
    }

    /// Ports become free or taken, and the proxy falls silent or speaks again.
    pub(super) async fn change_the_proxys_mind(&mut self) {
        match self.random.u8(0..4) {
            0 => {
                let is_silent = self.random.bool();
                self.proxy.state().is_silent = is_silent;
            }
            1 => self.proxy.state().refused_ports.clear(),
            _ => {
                let port = 7_000 + self.random.u16(0..4);
                self.proxy.state().refused_ports.insert(port);
            }
        }
        self.verify().await;
    }

    pub(super) fn published_port(&self) -> u16 {
        let bytes = fs::read(self.published_path()).expect("published");
        let document: Value = serde_json::from_slice(&bytes).expect("JSON");
        port_of(document.as_object().expect("an object"))
    }
}
