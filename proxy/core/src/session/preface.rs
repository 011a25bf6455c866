//! How a session comes to its pool: by the first route of its listener that matches. Where a route asks what the client
//! says in TLS, its first bytes are looked at and stay where they are: the backend gets every one of them.

use std::net::IpAddr;

use contract::OnNotTls;

use super::action::Action;
use super::state::{SessionState, Stage};
use crate::reason::SessionEnd;
use crate::route::hello::{Found, Hello, find};
use crate::route::{Preface, Routed, Routers};

impl SessionState {
    /// Finds its pool, if nothing that the client says is needed for it. Else that is awaited until `deadline_ms`.
    pub fn begin(&mut self, routers: &mut Routers, client_ip: IpAddr, deadline_ms: u64) -> Action {
        match routers.route(self.listener, client_ip, Preface::Unread) {
            Routed::AskHello => {
                self.stage = Stage::Preface {
                    deadline_ms,
                    has_awaited_bytes: false,
                };
                Action::Arm { at_ms: deadline_ms }
            }
            routed => self.routed(routed),
        }
    }

    /// What the client has sent so far, as [`Action::Peek`] asked. Nothing more is waited for if `is_last`.
    pub fn peeked(
        &mut self,
        bytes: &[u8],
        is_last: bool,
        routers: &mut Routers,
        client_ip: IpAddr,
        on_not_tls: OnNotTls,
    ) -> Action {
        let Stage::Preface {
            has_awaited_bytes, ..
        } = &mut self.stage
        else {
            return Action::Wait;
        };
        let mut route = |preface: Preface<'_>| routers.route(self.listener, client_ip, preface);
        let routed = match find(bytes) {
            Found::Part { at_least } if !is_last => {
                *has_awaited_bytes = true;
                return Action::AwaitBytes { at_least };
            }
            Found::Message(message) => {
                Hello::read(&message).map(|hello| route(Preface::Hello(&hello)))
            }
            Found::Part { .. } | Found::NotTls => None,
        };
        match (routed, on_not_tls) {
            (Some(routed), _) => self.routed(routed),
            (None, OnNotTls::Refuse) => Action::Reset(SessionEnd::NotTls),
            (None, OnNotTls::Default) => {
                let routed = route(Preface::NotTls);
                self.routed(routed)
            }
        }
    }

    fn routed(&mut self, routed: Routed) -> Action {
        match routed {
            Routed::To { pool, by_tls } => {
                let has_awaited_bytes = match self.stage {
                    Stage::Preface {
                        has_awaited_bytes, ..
                    } => has_awaited_bytes,
                    _ => false,
                };
                self.pool = pool;
                self.stage = Stage::Choosing {
                    failure: None,
                    is_by_tls: by_tls,
                };
                Action::Choose { has_awaited_bytes }
            }
            Routed::AskHello | Routed::NoRoute => Action::Reset(SessionEnd::NoRoute),
        }
    }
}
