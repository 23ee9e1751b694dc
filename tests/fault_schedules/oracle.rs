//! What must hold whatever went wrong: one function for each invariant, each with the words that ask for it.
//! They say what is wrong, in words; nothing means that it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use operator_core::api::Reason;
use operator_core::api::conditions;
use operator_core::api::conditions::{is_registered, is_true, reason_of};
use operator_core::api::{
    AttemptOutcome, DeletionPolicy, LedgerEntry, LossPolicy, Operation, REGISTER_REQUESTED_AT,
    WhatsAppPhoneNumber,
};
use serde_json::json;

use super::observer::{Post, Seen, Version, is_leaving, open_claims};
use super::plan::{Action, DEREGISTER_DEADLINE, Number, Plan, pin, token};
use testkit::operator::Farewell;
use testkit::simulator::{self, NumberReport};

/// Everything that is known of a schedule that has ended.
pub struct Evidence {
    pub seen: Seen,
    /// The simulator's account of each number of the plan, in its order.
    pub reports: Vec<NumberReport>,
    /// The resources when all had come to rest, before people deleted them.
    pub last: Vec<WhatsAppPhoneNumber>,
    /// The IDs of the numbers that Graph had registered then.
    pub registered: BTreeSet<String>,
    /// When that was.
    pub rested: Instant,
    pub logs: Vec<String>,
    pub events: Vec<Event>,
    /// Whether an operator died: then an answer may be on the way to nobody beside the next call.
    pub crashed: bool,
    /// When the faults ended.
    pub faults_ended: Instant,
}

/// What calls there are but reads.
const OPERATIONS: [Operation; 2] = [Operation::Register, Operation::Deregister];

/// How long before a call its inputs may have been read: a change of them from then on is worth another call.
const INPUTS_READ_BEFORE: Duration = Duration::from_secs(3);

/// What a status says of a claim whose process is gone (`core/src/model/decide/settle.rs`).
const LEFT: &str = "call is gone and recorded no outcome";

/// How far ahead a time is that counts as rest.
pub const REST: Duration = Duration::from_secs(20);

/// The same, beside the plan.
struct Judge<'a> {
    plan: &'a Plan,
    evidence: &'a Evidence,
}

impl Deref for Judge<'_> {
    type Target = Evidence;

    fn deref(&self) -> &Evidence {
        self.evidence
    }
}

impl Evidence {
    /// Everything that does not hold.
    pub fn violations(&self, plan: &Plan) -> Vec<String> {
        let evidence = self;
        Judge { plan, evidence }.violations()
    }

    /// Whether a number's budget went on calls that never came to Graph: faults lose fewer, so the machine was so busy
    /// that the operator gave up what a gate was still passing on.
    pub fn is_of_a_busy_machine(&self, plan: &Plan) -> bool {
        let evidence = self;
        let judge = Judge { plan, evidence };
        let mut numbers = plan.numbers.iter();
        !plan.graph_fails && numbers.any(|number| judge.is_given_up(number))
    }

    /// What was seen, for people.
    pub fn account(&self) -> String {
        let versions = self.seen.versions.iter().map(|version| {
            let Version {
                deleted, object, ..
            } = version;
            let (name, at) = (object.name_any(), object.resource_version());
            let (uid, status) = (object.uid(), json!(object.status));
            format!("{name} {uid:?} version {at:?} deleted: {deleted} {status}\n")
        });
        let posts = self.seen.posts.iter().map(|post| format!("{post:?}\n"));
        let reports = self.reports.iter().map(|report| format!("{report:#?}\n"));
        let logs = self.logs.iter().map(|log| format!("--- log\n{log}\n"));
        versions.chain(posts).chain(reports).chain(logs).collect()
    }
}

impl Judge<'_> {
    fn violations(&self) -> Vec<String> {
        let checks = [
            Self::no_call_for_a_registered_number,
            Self::no_deregister_call_for_a_declared_number,
            Self::one_claim_one_call,
            Self::one_request_one_call,
            Self::the_budget_is_kept,
            Self::no_call_with_an_older_definition,
            Self::stalled_until_something_changes,
            Self::a_refused_deregister_call_is_the_last,
            Self::a_success_is_never_lost,
            Self::what_was_answered_is_recorded,
            Self::nobody_leaves_a_claim_behind,
            Self::everything_settles,
            Self::secrets_stay_inside,
            Self::exactly_one_call,
            Self::no_register_call_that_nobody_asked_for,
            Self::no_deregister_call_that_nobody_asked_for,
            Self::the_finalizer_is_where_it_is_wanted,
            Self::the_last_deletion_takes_a_number_off,
            Self::whoever_goes_says_so,
        ];
        checks.iter().flat_map(|check| check(self)).collect()
    }

    /// I1: "Every POST is preceded by such a read in the same pass (look before you leap), unless the annotation asked
    /// for it." ("Reading the number")
    fn no_call_for_a_registered_number(&self) -> Vec<String> {
        let excess = self.numbers().filter_map(|(number, report)| {
            let calls = report.counts.register_calls_while_registered;
            let requested = self
                .posts(number, Operation::Register)
                .filter(|post| self.is_requested(post))
                .count();
            (calls > requested + self.forgotten(number)).then(|| {
                format!(
                    "I1: {}: {calls} calls while registered, {requested} requested",
                    number.id
                )
            })
        });
        excess.collect()
    }

    /// I1': "It asks the API server for other resources of the number before the claim, and again between the claim and the call"
    /// ("Observing and leaving"): one that came before the claim and is not being deleted is found.
    fn no_deregister_call_for_a_declared_number(&self) -> Vec<String> {
        let wrong = self.decided(Operation::Deregister, |post, claim| {
            let (own, claimed) = (claim.object.uid(), number_of(claim));
            let others = post
                .declared
                .iter()
                .filter(|uid| Some(*uid) != own.as_ref());
            let by_uid = self.by_uid();
            let mut created = others.filter_map(|uid| by_uid.get(uid)?.first().copied());
            created.any(|first| number_of(first) < claimed)
        });
        wrong
            .map(|post| format!("I1': a deregister call for a declared number: {post:?}"))
            .collect()
    }

    /// I2: "A claim leads to at most one POST, by the process that wrote it." ("The claim") "One process never has two calls for
    /// one number at a time" ("What makes it try again")
    fn one_claim_one_call(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (number, report) in self.numbers() {
            for operation in OPERATIONS {
                wrong.extend(self.calls_without_a_claim(number, report, operation));
            }
            let alone = self.plan.operators == 1 && !self.crashed && !self.plan.graph_fails;
            if alone && report.counts.max_concurrent > 1 {
                wrong.push(format!("I2: {}: two calls at a time", number.id));
            }
        }
        wrong
    }

    fn calls_without_a_claim(
        &self,
        number: &Number,
        report: &NumberReport,
        operation: Operation,
    ) -> Vec<String> {
        let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
        for post in self.posts(number, operation) {
            let mut claims = self.claims(post).into_iter().map(|(_, id)| id);
            let free = claims.find(|id| !used.contains(id));
            let without = || {
                format!(
                    "I2: {}: a call without a claim of its own: {post:?}",
                    number.id
                )
            };
            match free {
                Some(id) => drop(used.insert(id)),
                None => wrong.push(without()),
            }
        }
        let (calls, passed) = (
            calls(report, operation),
            self.posts(number, operation).count(),
        );
        if calls != passed {
            wrong.push(format!("I2: {}: {calls} calls, {passed} seen", number.id));
        }
        let sent = self.sent_claims(number, operation).len();
        if calls > sent {
            wrong.push(format!(
                "I2: {}: {calls} calls for {sent} claims that did not end as not sent",
                number.id
            ));
        }
        wrong
    }

    /// I2: "It is stored as handled in the same write as the claim, so one value gives at most one POST that may have
    /// acted" (2)
    fn one_request_one_call(&self) -> Vec<String> {
        let mut calls: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for (uid, attempt) in self.ended_attempts() {
            let may_have_acted =
                attempt.counts() && attempt.known_reason() != Some(Reason::RateLimited);
            if let (Some(value), true) = (&attempt.request, may_have_acted) {
                calls
                    .entry((uid, value.clone()))
                    .or_default()
                    .insert(attempt.id);
            }
        }
        let twice = calls.into_iter().filter(|(_, ids)| ids.len() > 1);
        twice
            .map(|(request, ids)| {
                format!("I2: {request:?} was asked for once and called for by {ids:?}")
            })
            .collect()
    }

    /// I3: "No more than --attempt-limit automatic attempts per number in 72 h" ("Schedule and budget"), "never an 11th"; deregister
    /// calls have "a separate budget of ten" ("Observing and leaving").
    fn the_budget_is_kept(&self) -> Vec<String> {
        let kinds = self
            .numbers()
            .flat_map(|known| OPERATIONS.map(|operation| (known, operation)));
        let excess = kinds.filter_map(|((number, report), operation)| {
            let requested = self
                .posts(number, operation)
                .filter(|post| self.is_requested(post))
                .count();
            let calls = calls(report, operation);
            let limit = match operation {
                Operation::Register => (self.plan.attempt_limit + requested).min(10),
                Operation::Deregister => 10,
            };
            // Each time that a ledger is forgotten, its calls are.
            let ledgers = 1 + self.forgotten(number) + self.replaced(number, operation);
            (calls > limit * ledgers).then(|| {
                format!(
                    "I3: {}: {calls} {operation:?} calls, {requested} of them requested",
                    number.id
                )
            })
        });
        excess.collect()
    }

    /// "Where one that decisions read is missing, the API server's CRD is older than the operator: no call is made" ("The claim")
    fn no_call_with_an_older_definition(&self) -> Vec<String> {
        let Some(field) = &self.plan.unknown_field else {
            return Vec::new();
        };
        let mut posts = self.seen.posts.iter();
        let early = posts.find(|post| post.at < self.faults_ended);
        early
            .map(|post| format!("I2: a call without {field}: {post:?}"))
            .into_iter()
            .collect()
    }

    /// I4: "After Stalled: a change of what a call is made of, or the annotation; any other new generation, or a Secret
    /// touched without a change, costs nothing." ("What makes it try again")
    fn stalled_until_something_changes(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (number, _) in self.numbers() {
            let mut before: Option<&Post> = None;
            for post in self.posts(number, Operation::Register) {
                let stalled = self.is_stalled_at(number, post);
                let since = before.and_then(|before| before.at.checked_sub(INPUTS_READ_BEFORE));
                let changed = self.seen.actions.iter().any(|(at, action)| {
                    *at < post.at
                        && since.is_none_or(|since| *at > since)
                        && matches!(
                            action,
                            Action::Create(_)
                                | Action::Delete(_)
                                | Action::Request(..)
                                | Action::Secret(..)
                                | Action::BreakSecret(_)
                                | Action::DeleteSecret(_)
                                // What stalled it stood in the status alone, or in that of a twin which is not looked at any more.
                                | Action::Wipe(_)
                                | Action::Label(..)
                        )
                });
                if stalled && !changed {
                    wrong.push(format!(
                        "I4: {}: a call after it was stalled: {post:?}",
                        number.id
                    ));
                }
                before = Some(post);
            }
        }
        wrong
    }

    /// I4: "a refusal is settled by a read" ("Observing and leaving"): where that shows the number as registered, it is for people to go
    /// on.
    fn a_refused_deregister_call_is_the_last(&self) -> Vec<String> {
        let wrong = self.decided(Operation::Deregister, |_, claim| {
            let calls = claim.object.attempts().iter();
            let mut deregisters = calls.filter(|call| call.operation == Operation::Deregister);
            deregisters.any(|call| call.known_reason().is_some_and(ends_deregister_calls))
        });
        let wrong = wrong.map(|post| format!("I4: a deregister call after a refusal: {post:?}"));
        wrong.collect()
    }

    /// "conditions follow the newest entry, and a success is never overwritten by an older or failed result" ("The claim");
    /// "After Registered: only the annotation." ("What makes it try again") "Only definite answers count." ("Observing and leaving") A
    /// sound Graph says only of a number that was taken off that it is not registered.
    fn a_success_is_never_lost(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for versions in self.by_uid().values() {
            for pair in versions.windows(2) {
                let [before, after] = [&pair[0].object, &pair[1].object];
                let name = after.name_any();
                let (Some(was), Some(is)) = (&before.status, &after.status) else {
                    continue;
                };
                if is_wiped(after) {
                    continue; // By somebody else; what the operator makes of it must hold again.
                }
                let over = is_leaving(after) || is.loss.is_some() && self.may_be_lost(pair[1]);
                if is_registered(was) && !is_registered(is) && !over {
                    wrong.push(format!("I4: {name}: registered, and then not: {is:?}"));
                }
                if was.registration_time.is_some() && is.registration_time.is_none() {
                    wrong.push(format!("I4: {name}: the registration time is gone"));
                }
                for attempt in was.attempts.iter().filter(|a| succeeded(a)) {
                    let kept = is.attempts.iter().any(|now| now == attempt);
                    if !kept {
                        wrong.push(format!(
                            "I4: {name}: a success is gone: {attempt:?}, {:?}",
                            is.attempts
                        ));
                    }
                }
            }
        }
        wrong
    }

    /// "The result is written by claim ID against the newest version, again and again until it is stored or the process
    /// ends." ("The claim") What a dead process did not write is found out by a read: that of the resource, or of one that takes
    /// precedence by then and adopts the number. The entry then stays without an outcome.
    fn what_was_answered_is_recorded(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for post in &self.seen.posts {
            let [(uid, id)] = self.claims(post).try_into().unwrap_or_default();
            // A call of the end, when all but one resource of a number are deleted, is not there yet when all rests before.
            let shows = |last: &&WhatsAppPhoneNumber| {
                let own = last.uid().as_ref() == Some(&uid);
                own && last.attempts().iter().any(|attempt| attempt.id == id)
            };
            let at_rest = self.last.iter().find(shows);
            let Some(last) = at_rest.or_else(|| self.newest(&uid)) else {
                continue;
            };
            if self.was_wiped(&uid, &id) {
                continue; // The entry is gone; that the number is registered is the other checks' matter.
            }
            let entry = last.attempts().iter().find(|attempt| attempt.id == id);
            if self.went_with_open_claim(&uid, &id) {
                continue; // There was nothing to record it in.
            }
            let registers = post.operation == Operation::Register;
            // A number that was taken off keeps its PIN at Graph, and the Secret may have another one by now. Where it is taken off just
            // after a call whose answer was lost, no read shows that the call has acted.
            let mut numbers = self.plan.numbers.iter().filter(|n| n.id == post.number);
            let taken_off = numbers.any(|number| {
                let lost = self.losses(number).next().is_some();
                lost || self.taken_off_before(number, post.at) > 0
            });
            let certain =
                registers && !taken_off && !self.plan.graph_fails && !self.is_requested(post);
            let hold = last.status.as_ref().and_then(|status| status.hold.as_ref());
            let yields = hold.is_some_and(|hold| hold.reason == Reason::DuplicatePhoneNumber);
            let recorded = match entry.and_then(|entry| entry.outcome()) {
                Some(AttemptOutcome::Succeeded) => true,
                Some(AttemptOutcome::Unknown) if yields => true,
                Some(AttemptOutcome::Failed | AttemptOutcome::Unknown) => !certain,
                Some(AttemptOutcome::NotSent) | None => false,
            };
            if !recorded {
                wrong.push(format!(
                    "I4: {}: a call is not recorded: {post:?}: {entry:?}",
                    last.name_any()
                ));
            }
        }
        wrong
    }

    /// The same, where nobody died: then no claim is left to be found by somebody else.
    fn nobody_leaves_a_claim_behind(&self) -> Vec<String> {
        if self.crashed || self.plan.operators > 1 {
            return Vec::new();
        }
        let objects = self.seen.versions.iter().map(|version| &version.object);
        let conditions =
            objects.flat_map(|object| object.status.iter().flat_map(|s| &s.conditions));
        let left = conditions
            .map(|condition| &condition.message)
            .find(|m| m.contains(LEFT));
        left.map(|message| format!("I4: {message}"))
            .into_iter()
            .collect()
    }

    /// I5: "last generation decided on, with every condition's, on each pass that finds a newer one" (2); every number
    /// ends registered, stalled with a reason, suspended, or waiting with a time.
    fn everything_settles(&self) -> Vec<String> {
        let unsettled = self.last.iter().filter_map(|resource| {
            let why = unsettled(resource)?;
            Some(format!(
                "I5: {}: {why}: {:?}",
                resource.name_any(),
                resource.status
            ))
        });
        let restless = restless(&self.last).or(misled(self.plan, &self.last, &self.registered));
        let restless = restless.map(|why| format!("I5: {why}"));
        restless.into_iter().chain(unsettled).collect()
    }

    /// I6: "Token, PIN and backup are SecretString from the API object to the request builder, cleared after use, and
    /// never in a log, event, status, metric, panic or Debug." ("Secrets")
    fn secrets_stay_inside(&self) -> Vec<String> {
        let versions = self
            .seen
            .versions
            .iter()
            .map(|version| &version.object.status);
        let mut texts: Vec<(&str, String)> =
            self.logs.iter().map(|log| ("log", log.clone())).collect();
        texts.extend(versions.map(|status| ("status", format!("{status:?}"))));
        texts.push(("events", format!("{:?}", self.events)));
        let mut wrong = Vec::new();
        for (place, text) in &texts {
            for n in 0..4 {
                for secret in [token(n).as_str(), pin(n)] {
                    wrong.extend(
                        shown(text, secret)
                            .map(|near| format!("I6: a secret in the {place}: {near}")),
                    );
                }
            }
            if let Some(at) = text.find("panicked at").filter(|_| *place == "log") {
                wrong.push(format!("I6: a panic: {}", near(text, at)));
            }
        }
        wrong
    }

    /// With a sound Graph it is known how many calls a number takes: one, "whatever happens to the API server or the
    /// process", none where it was registered before; one more for each value of the annotation; and at most one more for each time
    /// that it was taken off.
    fn exactly_one_call(&self) -> Vec<String> {
        if self.plan.graph_fails {
            return Vec::new();
        }
        let wrong = self.numbers().filter_map(|(number, _)| {
            let posts: Vec<&Post> = self.posts(number, Operation::Register).collect();
            let asked = posts.iter().filter(|post| self.is_requested(post)).count();
            let own = posts.len() - asked;
            // A suspended one may be the one that goes ahead: "else oldest" ("What makes it try again").
            let of_number = |r: &&WhatsAppPhoneNumber| r.spec.phone_number_id == number.id;
            let mut all = self.last.iter().filter(of_number).peekable();
            let wanted = all.peek().is_some() && all.all(|resource| !resource.spec.suspend);
            let taken_off = self.taken_off_before(number, self.rested);
            let (least, most) = match (number.registered_before, taken_off) {
                (true, 0) => (0, 0),
                (true, taken_off) => (0, taken_off + self.forgotten(number)),
                (false, taken_off) => (1, 1 + taken_off + self.forgotten(number)),
            };
            let right = if wanted && asked == 0 && taken_off == 0 {
                let registered = self.registered.contains(&number.id);
                (least..=most).contains(&own) && registered || self.is_given_up(number)
            } else {
                own <= most
            };
            (!right).then(|| format!("I2: {}: {own} calls, {asked} requested", number.id))
        });
        wrong.collect()
    }

    /// I7: "No call follows a loss automatically unless `lossPolicy` is `Register`." ("Observing and leaving")
    fn no_register_call_that_nobody_asked_for(&self) -> Vec<String> {
        let wrong = self.decided(Operation::Register, |post, claim| {
            let known = self
                .before(claim)
                .and_then(|before| before.object.status.as_ref());
            let was_registered = known.is_some_and(|status| status.registration_time.is_some());
            let recovers = claim.object.spec.loss_policy == LossPolicy::Register;
            let status = claim.object.status.as_ref();
            let loss = status.and_then(|status| status.loss.as_ref());
            let mends = recovers && loss.is_some_and(|loss| !loss.repeated);
            was_registered && !mends && !self.is_requested(post)
        });
        let wrong = wrong.map(|post| format!("I7: nobody asked for a register call: {post:?}"));
        wrong
            .chain(self.a_number_that_is_left_alone_stays_so())
            .collect()
    }

    /// I7: with `Report`, without an annotation and with each status kept, not one register call follows once a number was registered,
    /// for whichever resource.
    fn a_number_that_is_left_alone_stays_so(&self) -> Vec<String> {
        let wrong = self.numbers().filter_map(|(number, _)| {
            let disturbs = |(_, action): &(Instant, Action)| match action {
                Action::Delete(n)
                | Action::Request(n, _)
                | Action::Suspend(n, _)
                | Action::Label(n, _)
                | Action::Wipe(n) => self.names(*n, number),
                _ => false,
            };
            let of_number = |version: &&Version| version.object.spec.phone_number_id == number.id;
            let versions: Vec<&Version> = self.seen.versions.iter().filter(of_number).collect();
            let reports =
                |version: &&Version| version.object.spec.loss_policy == LossPolicy::Report;
            if !versions.iter().all(reports) || self.seen.actions.iter().any(disturbs) {
                return None;
            }
            let registered =
                |version: &&&Version| version.object.status.as_ref().is_some_and(is_registered);
            let since = versions.iter().find(registered)?.seen;
            let mut posts = self.posts(number, Operation::Register);
            let post = posts.find(|post| (since..self.rested).contains(&post.at))?;
            Some(format!(
                "I7: {}: registered once, and called for: {post:?}",
                number.id
            ))
        });
        wrong.collect()
    }

    /// I7: a deregister call is for the deletion of a resource that has the finalizer, asks for the call and is not suspended.
    fn no_deregister_call_that_nobody_asked_for(&self) -> Vec<String> {
        let wrong = self.decided(Operation::Deregister, |_, claim| {
            let (resource, spec) = (&claim.object, &claim.object.spec);
            let wanted = spec.deletion_policy == DeletionPolicy::Deregister && !spec.suspend;
            !(wanted && is_leaving(resource) && resource.has_finalizer())
        });
        wrong
            .map(|post| format!("I7: nobody asked for a deregister call: {post:?}"))
            .collect()
    }

    /// "With `deletionPolicy: Deregister`, the resource has a finalizer before it has its first claim" ("Observing and leaving"), and with
    /// `Retain` it has none.
    fn the_finalizer_is_where_it_is_wanted(&self) -> Vec<String> {
        let wrong = self.last.iter().filter(|resource| {
            let wanted = resource.spec.deletion_policy == DeletionPolicy::Deregister;
            let registered = resource.status.as_ref().is_some_and(is_registered);
            match resource.has_finalizer() {
                true => !wanted,
                false => wanted && registered,
            }
        });
        wrong
            .map(|resource| format!("I5: the finalizer of {resource:?}"))
            .collect()
    }

    /// With a sound Graph and API server it is known what the last deletion does to a number with one resource: one deregister call
    /// where that asks for it, and else nothing. A machine can be too busy for it.
    fn the_last_deletion_takes_a_number_off(&self) -> Vec<String> {
        if self.plan.graph_fails {
            return Vec::new();
        }
        let wrong = self.numbers().filter_map(|(number, report)| {
            let of_number = |r: &&WhatsAppPhoneNumber| r.spec.phone_number_id == number.id;
            let last: Vec<_> = self.last.iter().filter(of_number).collect();
            let [last] = last.as_slice() else { return None };
            let (before, after): (Vec<&Post>, Vec<&Post>) = self
                .posts(number, Operation::Deregister)
                .partition(|post| post.at < self.rested);
            if !before.is_empty() {
                return None; // For one resource after the other of one name only the first call is made in 72 hours.
            }
            let asked =
                last.spec.deletion_policy == DeletionPolicy::Deregister && !last.spec.suspend;
            let was_registered = self.registered.contains(&number.id);
            let expected = usize::from(asked && was_registered);
            let stays = was_registered && expected == 0;
            let right = after.len() == expected && report.state.registered == stays;
            let too_busy = after.len() <= expected && self.met_the_deadline(last);
            (!right && !too_busy).then(|| {
                let (id, name, made) = (&number.id, last.name_any(), after.len());
                format!("I7: {id}: {made} deregister calls for {name}, {expected} asked for")
            })
        });
        wrong.collect()
    }

    /// Whoever goes without its finalizer has told what becomes of the number; and none is called off that is not.
    fn whoever_goes_says_so(&self) -> Vec<String> {
        let told: Vec<Farewell> = self.farewells().collect();
        let silent = self.by_uid().into_values().filter_map(|versions| {
            let held =
                |version: &&Version| is_leaving(&version.object) && version.object.has_finalizer();
            let end = versions
                .last()
                .filter(|end| end.deleted && versions.iter().any(held))?;
            let (name, deleted) = (
                end.object.qualified_name(),
                end.object.metadata.deletion_timestamp.as_ref()?.0,
            );
            let of_this = |told: &Farewell| told.resource == name && told.time >= deleted;
            (!told.iter().any(of_this)).then(|| format!("I5: {name}: it went, and nobody said so"))
        });
        let lies = told
            .iter()
            .filter(|told| !self.plan.graph_fails && told.reason == "Deregistered");
        let lies = lies.filter(|told| self.was_registered_at(&told.number, told.time));
        let lies = lies.map(|told| format!("I5: the number is registered: {told:?}"));
        silent.chain(lies).collect()
    }

    fn farewells(&self) -> impl Iterator<Item = Farewell> {
        self.logs.iter().flat_map(|log| Farewell::all(log))
    }

    /// Whether a resource went no earlier than it had to.
    fn met_the_deadline(&self, resource: &WhatsAppPhoneNumber) -> bool {
        let uid = resource.uid().unwrap_or_default();
        let deleted = self
            .newest(&uid)
            .and_then(|newest| newest.metadata.deletion_timestamp.as_ref());
        let (name, deadline) = (
            resource.qualified_name(),
            deleted.map(|deleted| deleted.0 + DEREGISTER_DEADLINE),
        );
        let mut own = self.farewells().filter(|told| told.resource == name);
        own.any(|told| Some(told.time) >= deadline)
    }

    /// How often a call for a number may be forgotten. "A status that is wiped, or a restart after a deletion, loses it" ("Schedule and
    /// budget"): only the process that made the call remembers it then, so it is forgotten where that dies or is not the only one.
    /// For a twin, a resource without the label is as good as gone.
    fn forgotten(&self, number: &Number) -> usize {
        if !self.crashed && self.plan.operators == 1 {
            return 0;
        }
        let of_number = |n: &usize| self.names(*n, number);
        let twins = (0..self.plan.resources.len()).filter(of_number).count() > 1;
        let forgets = |(_, action): &&(Instant, Action)| match action {
            Action::Wipe(n) => of_number(n),
            Action::Label(n, false) => twins && of_number(n),
            _ => false,
        };
        self.seen.actions.iter().filter(forgets).count()
    }

    /// How often a resource with such calls may have been deleted and made again, which forgets them in the same way.
    fn replaced(&self, number: &Number, operation: Operation) -> usize {
        if operation == Operation::Register || !self.crashed && self.plan.operators == 1 {
            return 0;
        }
        let mut actions = self.seen.actions.iter();
        let deletes = |(_, action): &&(Instant, Action)| matches!(action, Action::Delete(n) if self.names(*n, number));
        actions.by_ref().filter(deletes).count()
    }

    /// Whether a resource of the plan names a number.
    fn names(&self, resource: usize, number: &Number) -> bool {
        let named = self.plan.resources.get(resource);
        named.is_some_and(|named| self.plan.numbers[named.number].id == number.id)
    }

    /// When somebody else has taken a number off.
    fn losses(&self, number: &Number) -> impl Iterator<Item = Instant> {
        let of_number = |n: usize| self.plan.numbers[n].id == number.id;
        let actions = self.seen.actions.iter();
        actions
            .filter(move |(_, action)| matches!(action, Action::Lose(n) if of_number(*n)))
            .map(|(at, _)| *at)
    }

    /// How often a number may have been taken off before some time, by a deregister call or by somebody else.
    fn taken_off_before(&self, number: &Number, time: Instant) -> usize {
        let calls = self.posts(number, Operation::Deregister);
        let all = self.losses(number).chain(calls.map(|post| post.at));
        all.filter(|at| *at < time).count()
    }

    /// Whether Graph may have shown twice that the number of a resource is not registered, before this version of it.
    fn may_be_lost(&self, version: &Version) -> bool {
        let id = &version.object.spec.phone_number_id;
        let mut numbers = self.plan.numbers.iter().filter(|number| number.id == *id);
        self.plan.graph_fails
            || numbers.any(|number| self.taken_off_before(number, version.seen) > 0)
    }

    /// Whether Graph had a number registered at some time.
    fn was_registered_at(&self, id: &str, time: Timestamp) -> bool {
        let Some((number, report)) = self.numbers().find(|(number, _)| number.id == id) else {
            return false;
        };
        let calls = report.log.iter().filter_map(|call| {
            let registers = match call.operation {
                simulator::Operation::Read => return None,
                simulator::Operation::Register => true,
                simulator::Operation::Deregister => false,
            };
            Some((call.acted_time?, registers))
        });
        let lost = self.losses(number);
        let lost = lost.map(|at| (Timestamp::now() - at.elapsed(), false));
        let changes = calls.chain(lost).filter(|(at, _)| *at <= time);
        let last = changes.max_by_key(|(at, _)| *at);
        last.map_or(number.registered_before, |(_, registers)| registers)
    }

    /// Whether the status was wiped after it had this claim.
    fn was_wiped(&self, uid: &str, id: &str) -> bool {
        let of_uid = |version: &&Version| version.object.uid().as_deref() == Some(uid);
        let mut versions = self.seen.versions.iter().filter(of_uid);
        let has = |version: &&Version| version.object.attempts().iter().any(|a| a.id == id);
        versions.by_ref().any(|version| has(&version)) && versions.any(|v| is_wiped(&v.object))
    }

    fn is_given_up(&self, number: &Number) -> bool {
        let of_number = |r: &&WhatsAppPhoneNumber| r.spec.phone_number_id == number.id;
        let statuses = self
            .last
            .iter()
            .filter(of_number)
            .filter_map(|r| r.status.as_ref());
        let mut reasons = statuses.map(|status| reason_of(status, conditions::READY));
        let spent = reasons.any(|reason| reason == Some(Reason::AttemptBudgetExhausted));
        spent && self.posts(number, Operation::Register).next().is_none()
    }

    fn numbers(&self) -> impl Iterator<Item = (&Number, &NumberReport)> {
        self.plan.numbers.iter().zip(&self.reports)
    }

    fn posts<'a>(
        &'a self,
        number: &'a Number,
        operation: Operation,
    ) -> impl Iterator<Item = &'a Post> {
        let posts = self.seen.posts.iter();
        posts.filter(move |post| post.number == number.id && post.operation == operation)
    }

    /// The calls of which something is true with each version that they may have been claimed with.
    fn decided(
        &self,
        operation: Operation,
        is: impl Fn(&Post, &Version) -> bool,
    ) -> impl Iterator<Item = &Post> {
        let posts = self
            .seen
            .posts
            .iter()
            .filter(move |post| post.operation == operation);
        posts.filter(move |post| {
            let claims = self.claims(post).into_iter();
            let mut versions = claims.filter_map(|(_, id)| self.claimed(&id)).peekable();
            versions.peek().is_some() && versions.all(|version| is(post, version))
        })
    }

    /// Whether a resource was deleted while this claim was open: nothing holds it but its finalizer.
    fn went_with_open_claim(&self, uid: &str, id: &str) -> bool {
        let of = |version: &&Version| version.object.uid().as_deref() == Some(uid);
        let mut versions = self.seen.versions.iter().filter(of);
        let held = versions
            .clone()
            .any(|version| version.object.has_finalizer());
        let open = |attempt: &LedgerEntry| attempt.id == id && attempt.is_open();
        let gone = versions
            .next_back()
            .is_some_and(|last| last.deleted && last.object.attempts().iter().any(open));
        gone && !held
    }

    /// A resource as it was seen last.
    fn newest(&self, uid: &str) -> Option<&WhatsAppPhoneNumber> {
        let mut versions = self.seen.versions.iter().rev();
        let newest = versions.find(|version| version.object.uid().as_deref() == Some(uid));
        newest.map(|version| &version.object)
    }

    /// The version that was written with a claim.
    fn claimed(&self, id: &str) -> Option<&Version> {
        let mut versions = self.seen.versions.iter();
        versions.find(|version| version.object.attempts().iter().any(|claim| claim.id == id))
    }

    /// The version before this one, of the same resource.
    fn before(&self, version: &Version) -> Option<&Version> {
        let same = |other: &&Version| other.object.uid() == version.object.uid();
        let earlier = |other: &&Version| number_of(other) < number_of(version);
        let mut versions = self.seen.versions.iter().rev();
        versions.find(|other| same(other) && earlier(other))
    }

    /// The claims that a call may have been made by: those that were open when it passed, and those of resources that
    /// had been deleted, or whose status was wiped, with an open claim.
    fn claims(&self, post: &Post) -> Vec<(String, String)> {
        let gone = self.seen.versions.iter().filter(|version| {
            version.deleted
                && version.seen <= post.at + Duration::from_secs(1)
                && version.object.spec.phone_number_id == post.number
        });
        let wiped = self.by_uid().into_values().flat_map(|versions| {
            let pairs: Vec<_> = versions.windows(2).map(|pair| (pair[0], pair[1])).collect();
            pairs.into_iter().filter(move |(before, after)| {
                let known = after.seen <= post.at + Duration::from_secs(1);
                let own = before.object.spec.phone_number_id == post.number;
                known && own && is_wiped(&after.object)
            })
        });
        let gone = gone.chain(wiped.map(|(before, _)| before));
        let gone = gone.flat_map(|version| open_claims(&version.object, post.operation));
        let mut claims = post.claims.clone();
        let known: Vec<_> = gone.filter(|claim| !claims.contains(claim)).collect();
        claims.extend(known);
        claims
    }

    /// Whether a call was made for the annotation: each of its claims was.
    fn is_requested(&self, post: &Post) -> bool {
        let claims = self.claims(post);
        let requested = |id: &str| {
            let versions = self.seen.versions.iter().flat_map(|v| v.object.attempts());
            versions.filter(|a| a.id == id).any(|a| a.request.is_some())
        };
        !claims.is_empty() && claims.iter().all(|(_, id)| requested(id))
    }

    /// The claims of a number for such a call that did not end as not sent.
    fn sent_claims(&self, number: &Number, operation: Operation) -> BTreeSet<String> {
        let of_number = |v: &&Version| v.object.spec.phone_number_id == number.id;
        let all = self
            .seen
            .versions
            .iter()
            .filter(of_number)
            .flat_map(|v| v.object.attempts())
            .filter(|attempt| attempt.operation == operation);
        let (mut claims, mut unsent) = (BTreeSet::new(), BTreeSet::new());
        for attempt in all {
            let known = if attempt.counts() {
                &mut claims
            } else {
                &mut unsent
            };
            known.insert(attempt.id.clone());
        }
        &claims - &unsent
    }

    /// Every entry as it was when its resource was last seen with it.
    fn ended_attempts(&self) -> Vec<(String, LedgerEntry)> {
        let mut last: BTreeMap<(String, String), LedgerEntry> = BTreeMap::new();
        for version in &self.seen.versions {
            let uid = version.object.uid().unwrap_or_default();
            for attempt in version.object.attempts() {
                last.insert((uid.clone(), attempt.id.clone()), attempt.clone());
            }
        }
        last.into_iter()
            .map(|((uid, _), attempt)| (uid, attempt))
            .collect()
    }

    /// Whether every resource of a number was stalled by Graph when the claim of a call was written, as last seen.
    fn is_stalled_at(&self, number: &Number, post: &Post) -> bool {
        let claims = self.claims(post);
        let before_claim = |version: &&Version| {
            let claimed = version
                .object
                .attempts()
                .iter()
                .any(|a| claims.iter().any(|(_, id)| *id == a.id));
            version.seen < post.at && !claimed && version.object.spec.phone_number_id == number.id
        };
        let mut newest: BTreeMap<String, &Version> = BTreeMap::new();
        for version in self.seen.versions.iter().filter(before_claim) {
            newest.insert(version.object.uid().unwrap_or_default(), version);
        }
        newest.retain(|_, version| !version.deleted);
        !newest.is_empty()
            && newest
                .values()
                .all(|version| is_stalled_by_graph(&version.object))
    }

    fn by_uid(&self) -> BTreeMap<String, Vec<&Version>> {
        let mut versions: BTreeMap<String, Vec<&Version>> = BTreeMap::new();
        for version in &self.seen.versions {
            let uid = version.object.uid().unwrap_or_default();
            versions.entry(uid).or_default().push(version);
        }
        versions
    }
}

/// Why the resources of a schedule have not come to rest; nothing if they have.
pub fn restless(resources: &[WhatsAppPhoneNumber]) -> Option<&'static str> {
    let gives_way = |resource: &WhatsAppPhoneNumber| {
        let stalled = |status| reason_of(status, conditions::STALLED);
        resource.status.as_ref().and_then(stalled) == Some(Reason::DuplicatePhoneNumber)
    };
    let all_give_way = |of: &WhatsAppPhoneNumber| {
        let number = |r: &&WhatsAppPhoneNumber| r.spec.phone_number_id == of.spec.phone_number_id;
        resources.iter().filter(number).all(gives_way)
    };
    if resources.iter().any(all_give_way) {
        return Some("every resource of a number gives way to another one");
    }
    resources.iter().find_map(unsettled)
}

/// Why a resource does not know of its number what Graph knows; nothing if it does. A faulty Graph misleads.
pub fn misled(
    plan: &Plan,
    resources: &[WhatsAppPhoneNumber],
    registered: &BTreeSet<String>,
) -> Option<&'static str> {
    let mut observed = resources
        .iter()
        .filter(|r| !plan.graph_fails && !r.spec.suspend);
    observed.find_map(|resource| {
        let status = resource.status.as_ref()?;
        let known = (is_registered(status), status.loss.is_some());
        match (known, registered.contains(&resource.spec.phone_number_id)) {
            ((true, _), false) => Some("it says Registered of a number that is lost"),
            ((_, true), true) => Some("it says of a registered number that it is lost"),
            _ => None,
        }
    })
}

/// Why a resource has not come to rest; nothing if it has.
fn unsettled(resource: &WhatsAppPhoneNumber) -> Option<&'static str> {
    let Some(status) = &resource.status else {
        return Some("no status");
    };
    if is_leaving(resource) {
        return Some("it is still being deleted");
    }
    if Some(status.observed_generation) != resource.metadata.generation {
        return Some("another generation was observed");
    }
    if resource.attempts().iter().any(LedgerEntry::is_open) {
        return Some("a claim is open");
    }
    let waits = status.next_attempt_time.as_ref().is_some_and(|next| {
        let ahead = next.0.duration_since(jiff::Timestamp::now());
        Duration::try_from(ahead).is_ok_and(|ahead| ahead > REST)
    });
    let (stalled, suspended) = (is_true(status, conditions::STALLED), resource.spec.suspend);
    if suspended
        && (is_registered(status)
            || reason_of(status, conditions::READY) == Some(Reason::Suspended))
    {
        return None;
    }
    if let (true, Some(Reason::InvalidPin | Reason::InvalidToken)) =
        (stalled, reason_of(status, conditions::STALLED))
    {
        return Some("a Secret is held to be wrong, and all are right in the end");
    }
    let asked = resource.annotations().get(REGISTER_REQUESTED_AT);
    let handled = status.last_handled_register_request.as_ref() == asked;
    let duplicate = reason_of(status, conditions::STALLED) == Some(Reason::DuplicatePhoneNumber);
    if asked.is_some() && !handled && !duplicate && !waits {
        return Some("a request is not handled");
    }
    let rests = is_registered(status) || stalled || waits;
    (!rests).then_some("neither registered nor stalled nor waiting for long")
}

/// Whether a status is as the CRD has it before an operator wrote any.
fn is_wiped(resource: &WhatsAppPhoneNumber) -> bool {
    let status = resource.status.as_ref();
    status.is_none_or(|status| status.observed_generation < 0)
}

/// Whether a deregister call that ended so is not followed by another one: it was carried out, or will not be.
fn ends_deregister_calls(reason: Reason) -> bool {
    let passing = [
        Reason::NotSent,
        Reason::OutcomeUnknown,
        Reason::GraphUnavailable,
        Reason::GraphUnreachable,
        Reason::RateLimited,
    ];
    !passing.contains(&reason)
}

/// How many calls of a kind a number has got.
fn calls(report: &NumberReport, operation: Operation) -> usize {
    match operation {
        Operation::Register => report.counts.register_calls,
        Operation::Deregister => report.counts.deregister_calls,
    }
}

/// The place of a version among all that the API server has stored.
fn number_of(version: &Version) -> Option<u64> {
    version.object.resource_version()?.parse().ok()
}

fn succeeded(attempt: &LedgerEntry) -> bool {
    attempt.outcome() == Some(AttemptOutcome::Succeeded)
}

fn is_stalled_by_graph(resource: &WhatsAppPhoneNumber) -> bool {
    let local = [
        Reason::InvalidPin,
        Reason::InvalidToken,
        Reason::InvalidBackup,
        Reason::DuplicatePhoneNumber,
        // What it takes to call for such a number is another check's matter.
        Reason::RegistrationLost,
    ];
    resource.status.as_ref().is_some_and(|status| {
        let reason = reason_of(status, conditions::STALLED);
        is_true(status, conditions::STALLED)
            && reason.is_some_and(|reason| !local.contains(&reason))
    })
}

/// Where a text shows a secret. The six digits of a PIN also stand in fractions of seconds and in longer numbers.
fn shown(text: &str, secret: &str) -> Option<String> {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '.');
    let whole = |at: &usize| {
        secret.len() > 6
            || !part(text[..*at].chars().next_back())
                && !part(text[at + secret.len()..].chars().next())
    };
    let found = text.match_indices(secret).map(|(at, _)| at).find(whole)?;
    Some(near(text, found))
}

fn near(text: &str, at: usize) -> String {
    let before: String = text[..at].chars().rev().take(200).collect();
    let after: String = text[at..].chars().take(300).collect();
    before.chars().rev().chain(after.chars()).collect()
}
