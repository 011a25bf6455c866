//! Why a session or flow ended: who, and how. One word each, in log, status and metrics.

/// Why a TCP session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SessionEnd {
    /// Both directions closed in order, the client's first.
    ClientClosed,
    /// Both directions closed in order, the backend's first, which had answered the client's last bytes.
    BackendClosed,
    /// The same, but the client's last bytes had no answer when the backend closed.
    BackendClosedUnanswered,
    /// The client reset the connection before either side had closed.
    ClientReset,
    /// The client reset the connection after one of both had closed its side.
    ClientResetAfterEnd,
    /// The connection to the client timed out, or no way leads there any more.
    ClientLost,
    /// The backend reset the connection before either side had closed, or while the client waited for
    /// an answer.
    BackendReset,
    /// The backend reset the connection after one of both had closed its side, when the client waited
    /// for no answer.
    BackendResetAfterEnd,
    /// The connection to the backend timed out, or no way leads there any more.
    BackendLost,
    /// Every backend that was tried refused or could not be reached.
    ConnectRefused,
    /// The last backend that was tried did not answer in time.
    ConnectTimeout,
    /// No backend takes new sessions.
    NoBackend,
    /// No route of its listener matched.
    NoRoute,
    /// It did not begin with a TLS ClientHello, and its listener takes nothing else.
    NotTls,
    /// Neither side sent anything for the idle time-out.
    IdleTimeout,
    /// The client took nothing of what waits for it, and nothing else moved, for the time allowed.
    ClientStalled,
    /// The backend took nothing of what waits for it, and nothing else moved, for the time allowed.
    BackendStalled,
    /// One direction was closed and the other silent for the half-close time-out.
    HalfCloseTimeout,
    /// Its backend was removed or disabled, longer ago than the settings allow.
    BackendGone,
    /// An operator ended it.
    Ended,
    /// The proxy was told to stop and the drain deadline had passed.
    Shutdown,
    /// A system call failed that should not: out of descriptors, memory or local ports.
    InternalError,
}

impl SessionEnd {
    /// In the order of their counters.
    pub const ALL: [SessionEnd; 22] = [
        SessionEnd::ClientClosed,
        SessionEnd::BackendClosed,
        SessionEnd::BackendClosedUnanswered,
        SessionEnd::ClientReset,
        SessionEnd::ClientResetAfterEnd,
        SessionEnd::ClientLost,
        SessionEnd::BackendReset,
        SessionEnd::BackendResetAfterEnd,
        SessionEnd::BackendLost,
        SessionEnd::ConnectRefused,
        SessionEnd::ConnectTimeout,
        SessionEnd::NoBackend,
        SessionEnd::NoRoute,
        SessionEnd::NotTls,
        SessionEnd::IdleTimeout,
        SessionEnd::ClientStalled,
        SessionEnd::BackendStalled,
        SessionEnd::HalfCloseTimeout,
        SessionEnd::BackendGone,
        SessionEnd::Ended,
        SessionEnd::Shutdown,
        SessionEnd::InternalError,
    ];

    /// The word in logs, status and metrics.
    pub fn word(self) -> &'static str {
        match self {
            SessionEnd::ClientClosed => "client_closed",
            SessionEnd::BackendClosed => "backend_closed",
            SessionEnd::BackendClosedUnanswered => "backend_closed_unanswered",
            SessionEnd::ClientReset => "client_reset",
            SessionEnd::ClientResetAfterEnd => "client_reset_after_end",
            SessionEnd::ClientLost => "client_lost",
            SessionEnd::BackendReset => "backend_reset",
            SessionEnd::BackendResetAfterEnd => "backend_reset_after_end",
            SessionEnd::BackendLost => "backend_lost",
            SessionEnd::ConnectRefused => "connect_refused",
            SessionEnd::ConnectTimeout => "connect_timeout",
            SessionEnd::NoBackend => "no_backend",
            SessionEnd::NoRoute => "no_route",
            SessionEnd::NotTls => "not_tls",
            SessionEnd::IdleTimeout => "idle_timeout",
            SessionEnd::ClientStalled => "client_stalled",
            SessionEnd::BackendStalled => "backend_stalled",
            SessionEnd::HalfCloseTimeout => "half_close_timeout",
            SessionEnd::BackendGone => "backend_gone",
            SessionEnd::Ended => "ended_by_operator",
            SessionEnd::Shutdown => "shutdown",
            SessionEnd::InternalError => "internal_error",
        }
    }

    /// Whether somebody should look at it.
    pub fn is_failure(self) -> bool {
        !matches!(
            self,
            SessionEnd::ClientClosed
                | SessionEnd::BackendClosed
                | SessionEnd::ClientResetAfterEnd
                | SessionEnd::BackendResetAfterEnd
                | SessionEnd::Ended
        )
    }
}

/// Why a UDP flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowEnd {
    /// No datagram either way for the idle time.
    Idle,
    /// The same, and the backend has not answered this client, though backends of its pool answer: it is
    /// hung or gone behind a firewall, or takes no such request.
    Unanswered,
    /// The same, and no backend of the pool has ever answered: the protocol may know no answers (syslog).
    OneWay,
    /// Each of its requests had `udp_responses` answers.
    Answered,
    /// The table was full, and this was the flow that is missed least: see
    /// [`FlowTable::least_missed`](crate::flow_table::FlowTable::least_missed).
    Evicted,
    /// A reload removed or disabled its backend, which does not answer or has had its time; the client's
    /// next datagram starts a new flow.
    BackendGone,
    /// Probes say that its backend is down; the client's next datagram starts a new flow.
    BackendDown,
    /// ICMP said that the backend's port is closed; the next datagram starts a new flow.
    Refused,
    /// The same, where the service seems to use TCP alone: see [`Protocols`](crate::protocols::Protocols).
    NotServed,
    /// An operator ended it; the client's next datagram starts a new flow.
    Ended,
    /// Its source has become a listener of ours, or one of `udp_peers`: see [`DropReason`].
    SourceRefused,
    /// The proxy ended.
    Shutdown,
    /// A system call failed that should not: out of descriptors, memory or local ports.
    InternalError,
}

impl FlowEnd {
    /// In the order of their counters.
    pub const ALL: [FlowEnd; 13] = [
        FlowEnd::Idle,
        FlowEnd::Unanswered,
        FlowEnd::OneWay,
        FlowEnd::Answered,
        FlowEnd::Evicted,
        FlowEnd::BackendGone,
        FlowEnd::BackendDown,
        FlowEnd::Refused,
        FlowEnd::NotServed,
        FlowEnd::Ended,
        FlowEnd::SourceRefused,
        FlowEnd::Shutdown,
        FlowEnd::InternalError,
    ];

    /// The word in logs, status and metrics.
    pub fn word(self) -> &'static str {
        match self {
            FlowEnd::Idle => "idle",
            FlowEnd::Unanswered => "unanswered",
            FlowEnd::OneWay => "one_way",
            FlowEnd::Answered => "answered",
            FlowEnd::Evicted => "evicted",
            FlowEnd::BackendGone => "backend_gone",
            FlowEnd::BackendDown => "backend_down",
            FlowEnd::Refused => "refused",
            FlowEnd::NotServed => "not_served",
            FlowEnd::Ended => "ended_by_operator",
            FlowEnd::SourceRefused => "source_refused",
            FlowEnd::Shutdown => "shutdown",
            FlowEnd::InternalError => "internal_error",
        }
    }

    /// Whether somebody should look at it.
    pub fn is_failure(self) -> bool {
        !matches!(
            self,
            FlowEnd::Idle
                | FlowEnd::OneWay
                | FlowEnd::Answered
                | FlowEnd::NotServed
                | FlowEnd::Ended
        )
    }
}

/// Why a datagram was not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DropReason {
    /// No backend takes new flows.
    NoBackend,
    /// The socket's send queue is full, as it would be without a proxy.
    QueueFull,
    /// It came to a listener that a reload closed, from a client without a flow.
    ListenerClosed,
    /// The table is full and nothing in it may be evicted, or descriptors are short.
    NoRoom,
    /// The system refused to send it, mostly for its size.
    SendFailed,
    /// It came faster than the worker could take it: the listener's receive queue was full.
    ReceiveQueueFull,
    /// It came from an address that we listen on: answered, it would go round for ever.
    FromListener,
    /// It came from a network of `udp_peers`, from a client without a flow.
    FromPeer,
}

impl DropReason {
    /// In the order of their counters.
    pub const ALL: [DropReason; 8] = [
        DropReason::NoBackend,
        DropReason::QueueFull,
        DropReason::ListenerClosed,
        DropReason::NoRoom,
        DropReason::SendFailed,
        DropReason::ReceiveQueueFull,
        DropReason::FromListener,
        DropReason::FromPeer,
    ];

    /// The word in logs, status and metrics.
    pub fn word(self) -> &'static str {
        match self {
            DropReason::NoBackend => "no_backend",
            DropReason::QueueFull => "queue_full",
            DropReason::ListenerClosed => "listener_closed",
            DropReason::NoRoom => "no_room",
            DropReason::SendFailed => "send_failed",
            DropReason::ReceiveQueueFull => "receive_queue_full",
            DropReason::FromListener => "from_listener",
            DropReason::FromPeer => "from_peer",
        }
    }
}
