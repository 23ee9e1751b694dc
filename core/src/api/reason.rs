//! Every reason that a condition, an attempt or an event can carry, and what follows from it.
//!
//! `cargo xtask docs` makes the README's table of them.

use std::fmt;
use std::str::FromStr;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $advice:literal,)+) => {
        /// Why a condition is what it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, in the order in which the README lists them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The reason as it stands in a condition.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The doc comment of the reason: its meaning, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// What the person who reads the condition should do; one sentence.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)+ }
            }
        }

        impl FromStr for Reason {
            type Err = UnknownReason;

            fn from_str(text: &str) -> Result<Self, UnknownReason> {
                match text {
                    $(stringify!($name) => Ok(Self::$name),)+
                    _ => Err(UnknownReason),
                }
            }
        }
    };
}

/// The text is no [`Reason`] of this version.
#[derive(Debug, thiserror::Error)]
#[error("not a reason of this version")]
pub struct UnknownReason;

reasons! {
    /// The register call succeeded.
    RegistrationSucceeded => "Nothing to do.",
    /// Graph said that the number was registered before any call was made.
    AlreadyRegistered => "Nothing to do.",
    /// The answer to a register call was lost or unclear, and a later read showed the number as registered.
    OutcomeConfirmed => "Nothing to do.",
    /// A register call is claimed and may be under way.
    Registering => "Wait: the outcome is recorded within a minute.",
    /// The number is suspended.
    Suspended => "Set spec.suspend to false to go on.",
    /// A Secret that the resource names does not exist.
    SecretNotFound => "Create the Secret; the operator goes on by itself.",
    /// A Secret lacks the key that the resource names.
    SecretKeyMissing => "Add the key to the Secret or correct the key in the spec; the operator goes on by itself.",
    /// The operator may not read a Secret that the resource names.
    SecretForbidden => "Grant the operator get on Secrets in this namespace; it looks again every minute.",
    /// The token, or the app secret, cannot be one: empty, blanks inside, control characters, not text.
    InvalidToken => "Put the token as plain text into the Secret; the operator goes on by itself.",
    /// The PIN is not six ASCII digits.
    InvalidPin => "Put the six digits as text into the Secret; the operator goes on by itself.",
    /// The backup's password or data is empty or not text.
    InvalidBackup => "Put the password and the data of the backup as text into the Secret; the operator goes on by itself.",
    /// Another resource of the same phone number ID goes ahead.
    DuplicatePhoneNumber => "Delete one of the two resources; this one takes over when the other is gone.",
    /// As many automatic attempts were made in 72 hours as the operator allows itself.
    AttemptBudgetExhausted => "Find out why the attempts failed (status.attempts); the operator goes on at the time named.",
    /// Graph does not accept the access token.
    TokenRejected => "Put a valid token of a system user into the Secret; the operator goes on by itself.",
    /// The token may not manage this number.
    PermissionDenied => "Assign the WhatsApp account to the system user and grant whatsapp_business_management, then change the token or set the annotation whatsapp-operator.dev/register-requested-at.",
    /// Graph does not know the phone number ID, or the token may not see it.
    PhoneNumberNotFound => "Compare spec.phoneNumberID with WhatsApp Manager, and assign the WhatsApp account to the token's system user; then set the annotation whatsapp-operator.dev/register-requested-at.",
    /// The number has two-step verification with another PIN.
    PinMismatch => "Put the number's PIN into the Secret, or reset it in WhatsApp Manager first; do not guess: wrong PINs lock the number.",
    /// Too many wrong PINs.
    PinLocked => "Wait, and put the right PIN into the Secret meanwhile.",
    /// Meta has locked or restricted the account.
    AccountLocked => "Look into Business Support Home, then set the annotation whatsapp-operator.dev/register-requested-at.",
    /// The ownership of the number is not verified.
    OwnershipNotVerified => "Verify the number by code (request_code, verify_code) in WhatsApp Manager, then set the annotation whatsapp-operator.dev/register-requested-at.",
    /// Meta cannot make the certificate: the display name is not processed yet, or another account holds the number.
    CertificateUnavailable => "Check the display name and whether another WhatsApp account holds the number.",
    /// Graph refused the request for what it says.
    InvalidRequest => "Correct what Graph's message names.",
    /// The number was deregistered or deleted minutes ago.
    RecentlyDeregistered => "Wait: Meta needs some minutes.",
    /// An earlier deregistration was left incomplete.
    DeregistrationIncomplete => "Deregister the number once more, then set the annotation whatsapp-operator.dev/register-requested-at.",
    /// Meta has blocked register calls for this number for 72 hours: ten were made.
    RegistrationBlocked => "Wait, make no register call elsewhere, and find out why the calls failed (status.attempts).",
    /// A rate limit of the app, the token or the account.
    RateLimited => "Wait, and make fewer calls with this app.",
    /// Graph has a fault that passes.
    GraphUnavailable => "Wait: the operator tries again.",
    /// Graph could not be reached; nothing was sent.
    GraphUnreachable => "Check DNS, proxy, firewall and network policy between the operator and Graph.",
    /// A register call was claimed and then not sent; it cost nothing.
    NotSent => "Wait: the operator tries again.",
    /// The register call has no readable answer: it may have acted.
    OutcomeUnknown => "Wait: the operator reads the number to find out.",
    /// Graph answered without an error and without success.
    RegistrationRejected => "Look at the number in WhatsApp Manager, then set the annotation whatsapp-operator.dev/register-requested-at.",
}

/// Where a reason comes to light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In what Kubernetes knows, before anything is sent.
    Check,
    /// In a read of the number, and never in the answer to a register call.
    Read,
    /// In a register call; the reasons that Graph also gives to a read are among these.
    Call,
}

/// What follows when Graph gave a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Registered: rest.
    Done,
    /// Try again by itself, with growing waits.
    Retry,
    /// Try again after a wait of its own, for so many attempts in a row, then stall.
    RetryN(u32),
    /// Try no more until a person changes something.
    Stall,
    /// Read the number until the confirm window has passed, then try again.
    Confirm,
    /// Read the number until the confirm window has passed, then stall.
    ConfirmThenStall,
}

impl Reason {
    /// What follows when a call ended with this reason.
    pub const fn disposition(self) -> Disposition {
        match self {
            Self::RegistrationSucceeded | Self::AlreadyRegistered | Self::OutcomeConfirmed => {
                Disposition::Done
            }
            Self::TokenRejected
            | Self::PermissionDenied
            | Self::PhoneNumberNotFound
            | Self::PinMismatch
            | Self::AccountLocked
            | Self::OwnershipNotVerified
            | Self::InvalidRequest
            | Self::DeregistrationIncomplete
            | Self::InvalidToken
            | Self::InvalidPin
            | Self::InvalidBackup
            | Self::DuplicatePhoneNumber => Disposition::Stall,
            Self::PinLocked => Disposition::RetryN(2),
            Self::CertificateUnavailable => Disposition::RetryN(3),
            Self::OutcomeUnknown | Self::Registering => Disposition::Confirm,
            Self::RegistrationRejected => Disposition::ConfirmThenStall,
            Self::Suspended
            | Self::SecretNotFound
            | Self::SecretKeyMissing
            | Self::SecretForbidden
            | Self::AttemptBudgetExhausted
            | Self::RecentlyDeregistered
            | Self::RegistrationBlocked
            | Self::RateLimited
            | Self::GraphUnavailable
            | Self::GraphUnreachable
            | Self::NotSent => Disposition::Retry,
        }
    }

    /// Where it comes to light.
    pub const fn source(self) -> Source {
        match self {
            Self::Suspended
            | Self::SecretNotFound
            | Self::SecretKeyMissing
            | Self::SecretForbidden
            | Self::InvalidToken
            | Self::InvalidPin
            | Self::InvalidBackup
            | Self::DuplicatePhoneNumber
            | Self::AttemptBudgetExhausted => Source::Check,
            Self::AlreadyRegistered | Self::OutcomeConfirmed => Source::Read,
            _ => Source::Call,
        }
    }

    /// Whether an attempt can end with it; the others are found out before one is made, or without one.
    pub const fn ends_an_attempt(self) -> bool {
        match self.source() {
            Source::Check => false,
            Source::Read => matches!(self, Self::OutcomeConfirmed),
            Source::Call => !matches!(self, Self::Registering),
        }
    }

    /// Whether the number counts as registered for this reason.
    pub const fn is_registered(self) -> bool {
        matches!(self.disposition(), Disposition::Done)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse::<Reason>().ok(), Some(*reason));
        }
        assert!("Nonsense".parse::<Reason>().is_err());
    }
}
