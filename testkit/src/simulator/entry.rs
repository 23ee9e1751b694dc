//! A number with its script, its counts, the log of its calls and those under way.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::Weak;

use axum::http::{header, request::Parts};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::oneshot;

use super::config::Defaults;
use super::contract::{Call, Operation, Request, Target};
use super::graph_error::GraphError;
use super::number::Number;
use super::plan::Plan;
use super::report::{Counts, LogEntry, NumberReport, NumberState, Outcome, Shown};
use super::script::Script;
use super::world::Ticket;

/// A number and what came in for it.
#[derive(Debug)]
pub struct Entry {
    pub(super) number: Number,
    pub(super) script: Script,
    pub(super) counts: Counts,
    pub(super) log: Vec<LogEntry>,
    pub(super) held: Vec<oneshot::Sender<()>>,
    pub(super) in_flight: Vec<(usize, Weak<TcpStream>)>,
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(id: &str, exists: bool) -> Self {
        let mut number = Number::fresh(id);
        number.exists = exists;
        Self {
            number,
            script: Script::default(),
            counts: Counts::default(),
            log: Vec::new(),
            held: Vec::new(),
            in_flight: Vec::new(),
        }
    }

    /// Counts and logs a call; its place in the log.
    pub(super) fn log(
        &mut self,
        target: &Target,
        parts: &Parts,
        trace: &str,
        now: Timestamp,
    ) -> usize {
        let counts = &mut self.counts;
        let count = match target.operation {
            Operation::Read => &mut counts.reads,
            Operation::Register => &mut counts.register_calls,
            Operation::Deregister => &mut counts.deregister_calls,
        };
        *count += 1;
        let user_agent = parts.headers.get(header::USER_AGENT);
        self.log.push(LogEntry {
            time: now,
            operation: target.operation,
            fields: None,
            attempt: *count,
            version: target.version.clone(),
            user_agent: user_agent.map(|value| String::from_utf8_lossy(value.as_bytes()).into()),
            step: None,
            trace: trace.to_owned(),
            acted: false,
            acted_time: None,
            shown: None,
            outcome: Outcome::InProgress,
            http_status: None,
            code: None,
        });
        self.log.len() - 1
    }

    /// Counts a call as in flight. A client that gave up on an earlier call has closed that
    /// connection before it opened another, even if its task here has not run since.
    pub(super) fn board(&mut self, index: usize, peer: Weak<TcpStream>) {
        self.in_flight
            .retain(|(_, peer)| peer.upgrade().is_some_and(|peer| is_open(&peer)));
        self.in_flight.push((index, peer));
        self.counts.max_concurrent = self.counts.max_concurrent.max(self.in_flight.len());
    }

    /// Whether Graph lets a call pass. Register calls count whatever becomes of them.
    pub(super) fn admit<'a>(
        &mut self,
        operation: Operation,
        call: &'a Result<Call, GraphError>,
        defaults: &Defaults,
        now: Timestamp,
    ) -> Result<&'a Call, GraphError> {
        let budget = match operation {
            Operation::Read => Ok(()),
            Operation::Register => self.spend(now),
            Operation::Deregister => self.number.spend_deregister(now),
        };
        self.counts.violations += usize::from(call.is_err());
        let call = call.as_ref().map_err(Clone::clone)?;
        if let (Some(entry), Request::Read(fields)) = (self.log.last_mut(), &call.request) {
            entry.fields.clone_from(fields);
        }
        self.number.authenticate(call, defaults)?;
        if !self.number.exists {
            let method = if operation == Operation::Read {
                "get"
            } else {
                "post"
            };
            return Err(GraphError::no_such_object(&self.number.id, method));
        }
        budget.map(|()| call)
    }

    fn spend(&mut self, now: Timestamp) -> Result<(), GraphError> {
        let budget = self.number.spend(now);
        self.counts.register_calls_over_limit += usize::from(budget.is_err());
        self.counts.register_calls_while_registered += usize::from(self.number.registered);
        budget
    }

    pub(super) fn plan(&mut self, operation: Operation, token: &str, trace: &str) -> Plan {
        let Some(step) = self.script.take(operation) else {
            return Plan::natural();
        };
        if let Some(entry) = self.log.last_mut() {
            entry.step = Some(step.action.name());
        }
        Plan::of(&step, token, trace)
    }

    pub(super) fn acted(&mut self, ticket: &Ticket, answer: &Value, now: Timestamp) {
        self.counts.deregister_acted +=
            usize::from(ticket.target.operation == Operation::Deregister);
        if ticket.target.operation == Operation::Register {
            self.counts.register_acted += 1;
            let plan = &ticket.plan;
            self.number.lag(plan.lag_reads, plan.lag, now);
        }
        if let Some(entry) = self.log.get_mut(ticket.index) {
            entry.acted = true;
            entry.acted_time = Some(now);
            entry.shown = Shown::of(answer);
        }
    }

    pub(super) fn report(&self, now: Timestamp) -> NumberReport {
        NumberReport {
            id: self.number.id.clone(),
            state: NumberState::of(&self.number, now),
            counts: self.counts,
            in_flight: self.in_flight.len(),
            held: self.held.len(),
            script: self.script.left(),
            log: self.log.clone(),
        }
    }
}

/// Whether the client still holds its end; the stream is non-blocking.
fn is_open(peer: &TcpStream) -> bool {
    match peer.peek(&mut [0]) {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Arc;

    use super::*;

    /// Both ends of a connection, the server's as the simulator keeps it.
    fn connection(listener: &TcpListener) -> io::Result<(TcpStream, Arc<TcpStream>)> {
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        server.set_nonblocking(true)?;
        Ok((client, Arc::new(server)))
    }

    #[test]
    fn a_client_that_gave_up_is_not_counted_beside_its_next_call() -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        for (gives_up, most) in [(true, 1), (false, 2)] {
            let mut entry = Entry::new("1", true);
            let (client, first) = connection(&listener)?;
            entry.board(0, Arc::downgrade(&first));
            let kept = (!gives_up).then_some(client);
            let (_client, second) = connection(&listener)?;
            entry.board(1, Arc::downgrade(&second));
            assert_eq!(entry.counts.max_concurrent, most, "gives up: {gives_up}");
            drop(kept);
        }
        Ok(())
    }
}
