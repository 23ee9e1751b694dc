//! What is explored, line by line: the number of operators, the names of the resources at the beginning (`a`, `b`, `ab`),
//! whether the PIN is `right` or `wrong`, and how often each kind of event may happen; `each=1` is all of them, and
//! `faults` the most of them together. `registered` begins with a number that is registered for the first resource, `observe`, `recover` and
//! `deregister` are what is wished for it then. Time beyond what operators wait for passes by `ticks` (half a claim's time, all of
//! it, the confirm window) and `long` (72 hours); `each` leaves out what can only happen to a number that is registered.

use super::{Bounds, Budget, Mutant, Wishes};

/// The most states that are looked at for one line.
const MOST: usize = 3_000_000;

/// In `cargo test`.
pub(super) const QUICK: &[&str] = &[
    "1 a right each=1 faults=1 ticks=1",
    "1 a right faults=3 calls=3",
    "1 a right faults=2 reads=1 elsewhere=1 calls=1",
    "1 a right faults=2 requests=1 calls=1 crashes=1 lost=1",
    "1 a wrong faults=2 pins=2 requests=1 calls=1",
    "2 a right switches=1 ticks=1",
    "2 a right switches=1 faults=1 crashes=1 lost=1 calls=1",
    "2 ab right switches=1",
    "1 ab right faults=2 suspensions=2 terminations=2 bars=2",
    "1 ab wrong faults=2 suspensions=1 terminations=1 bars=1 pins=1",
    "1 ab right faults=2 terminations=1 bars=1 crashes=1 calls=1",
    "1 a right deregister faults=2 deletions=1 calls=1 lost=1",
    "1 a right registered deregister faults=2 deletions=1 calls=1 lost=1 crashes=1",
    "1 a right registered deregister faults=3 deletions=1 calls=2 bars=1",
    "1 a right registered deregister faults=3 deletions=1 calls=1 reads=1 releases=1 suspensions=1",
    "1 a right registered deregister faults=3 deletions=2 creations=1 calls=1",
    "1 ab right registered deregister faults=2 deletions=2 calls=1",
    "2 a right registered deregister switches=1 faults=2 deletions=1 creations=1",
    "1 a right registered observe faults=3 losses=1 lies=1 elsewhere=1 reads=1 pins=1 observations=1",
    "1 a right registered observe recover faults=3 losses=2 lies=1 calls=1 observations=1",
];

/// With `MODEL=full`.
pub(super) const FULL: &[&str] = &[
    "1 a right each=1 faults=1 ticks=1 long=1",
    "1 a right each=2 faults=2",
    "1 a right faults=4 calls=3 crashes=1 long=1",
    "1 a wrong faults=4 pins=2 requests=2 edits=1 calls=1",
    "1 a right faults=3 deletions=1 creations=1 calls=1 crashes=1",
    "1 b right faults=2 creations=1 calls=1",
    "2 a right switches=1 each=1 faults=1",
    "2 a right switches=2 ticks=2",
    "2 a right switches=1 faults=1 lost=1 ticks=2",
    "2 a right switches=2 faults=2 deletions=1 creations=1",
    "2 ab right switches=2",
    "2 ab right switches=1 faults=1 calls=1 crashes=1",
    "2 b right switches=2 faults=1 creations=1",
    "1 ab right faults=3 terminations=1 bars=1 crashes=1 calls=1",
    "1 ab right faults=3 suspensions=1 bars=1 calls=1",
    "2 ab right switches=1 faults=1 suspensions=1 terminations=1 bars=1",
    "1 a right registered deregister faults=3 deletions=1 calls=2 lost=1 crashes=1",
    "1 a right registered deregister faults=3 deletions=1 calls=1 crashes=1 ticks=1",
    "1 ab right registered deregister faults=3 deletions=2 creations=1 calls=1",
    "2 a right registered deregister switches=1 faults=2 deletions=1 calls=1 crashes=1",
    "2 a right registered observe recover switches=1 faults=2 losses=1 calls=1",
];

/// Each line of defence, histories that need it, and whether they are found in `cargo test`. That a process remembers
/// what it has not sent is none: without it the claim is waited out like that of a crashed process.
pub(super) const MISSED: &[(Mutant, &str, bool)] = &[
    (Mutant::NoFence, "2 a right switches=1", true),
    (Mutant::NoAge, "2 a right switches=2 ticks=1", false),
    (Mutant::NoLook, "1 a right faults=1 calls=1", true),
    (Mutant::NoDeadline, "2 a right switches=2 ticks=2", false),
    (
        Mutant::NoRivals,
        "2 b right switches=2 faults=1 creations=1",
        false,
    ),
    (
        Mutant::OthersForgotten,
        "1 a right faults=3 deletions=1 creations=1 calls=1",
        true,
    ),
    (Mutant::Overwrites, "2 a right switches=1 ticks=2", false),
    (Mutant::NoWindow, "1 a right faults=1 calls=1", true),
    (
        Mutant::RequestNotStored,
        "1 a right faults=1 requests=1",
        true,
    ),
    (
        Mutant::NotRegisteredMeanwhile,
        "2 a right switches=1 ticks=2 faults=1 lost=1",
        false,
    ),
    (
        Mutant::ActsOnRecreated,
        "2 a right switches=2 faults=2 deletions=1 creations=1",
        false,
    ),
    (Mutant::NoBudget, "1 a right faults=2 calls=2", true),
    (Mutant::NoFinalizer, "1 a right deregister", true),
    (
        Mutant::NoLastSurvey,
        "1 a right registered deregister faults=2 deletions=1 creations=1",
        true,
    ),
    (
        Mutant::NoAftermath,
        "1 a right registered deregister faults=2 deletions=1 creations=1",
        true,
    ),
    (
        Mutant::EarlierForgotten,
        "1 a right registered deregister faults=3 deletions=2 creations=1",
        true,
    ),
    (
        Mutant::NoDeregisterDeadline,
        "1 a right registered deregister faults=2 deletions=1 bars=1",
        true,
    ),
    (
        Mutant::NoLook,
        "1 a right registered deregister faults=1 deletions=1",
        true,
    ),
    (
        Mutant::NoWindow,
        "1 a right registered deregister faults=2 deletions=1 calls=1",
        true,
    ),
    (
        Mutant::WishForgotten,
        "1 a right registered deregister faults=2 deletions=1 releases=1",
        true,
    ),
    (
        Mutant::OneAnswer,
        "1 a right registered observe faults=1 lies=1 observations=1",
        true,
    ),
    (
        Mutant::LossForgotten,
        "1 a right registered observe faults=2 losses=1 pins=1",
        true,
    ),
    (
        Mutant::FirstLossForgotten,
        "1 a right registered observe recover faults=2 losses=2",
        true,
    ),
];

/// Bounds from a line: `operators resources pin wish ... kind=times ...`.
pub(super) fn parsed(line: &str) -> Bounds {
    let mut words = line.split(' ');
    let mut next = || words.next().expect("operators, resources and PIN");
    let operators = next().parse().expect("a number of operators");
    let resources: &[usize] = match next() {
        "a" => &[0],
        "b" => &[1],
        "ab" => &[0, 1],
        names => panic!("the resources are a, b or ab, not {names}"),
    };
    let right_pin = next() == "right";
    let (mut budget, mut wishes, mut registered) = (Budget::default(), Wishes::default(), false);
    for word in words {
        match word {
            "registered" => registered = true,
            "observe" => wishes.observe = true,
            "recover" => wishes.recover = true,
            "deregister" => wishes.deregister = true,
            _ => spend(word, &mut budget),
        }
    }
    Bounds {
        operators,
        resources,
        right_pin,
        registered,
        wishes,
        budget,
        most: MOST,
    }
}

/// What a word of the form `kind=times` allows.
fn spend(word: &str, budget: &mut Budget) {
    let (kind, times) = word.split_once('=').expect("kind=times");
    let times: u8 = times.parse().expect("how many times");
    if kind == "each" {
        *budget = Budget {
            ticks: 0,
            long_ticks: 0,
            ..Budget::each(times)
        };
        return;
    }
    *match kind {
        "switches" => &mut budget.switches,
        "faults" => &mut budget.faults,
        "passes" => &mut budget.passes,
        "crashes" => &mut budget.crashes,
        "lost" => &mut budget.lost,
        "calls" => &mut budget.calls,
        "reads" => &mut budget.reads,
        "ticks" => &mut budget.ticks,
        "long" => &mut budget.long_ticks,
        "edits" => &mut budget.edits,
        "requests" => &mut budget.requests,
        "pins" => &mut budget.pins,
        "deletions" => &mut budget.deletions,
        "terminations" => &mut budget.terminations,
        "creations" => &mut budget.creations,
        "suspensions" => &mut budget.suspensions,
        "bars" => &mut budget.bars,
        "replays" => &mut budget.replays,
        "elsewhere" => &mut budget.elsewhere,
        "losses" => &mut budget.losses,
        "lies" => &mut budget.lies,
        "releases" => &mut budget.releases,
        "observations" => &mut budget.observations,
        kind => panic!("no kind {kind}"),
    } = times;
}
