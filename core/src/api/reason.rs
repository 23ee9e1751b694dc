//! Every reason that a condition, an attempt or an event can carry, and its consequences.
//!
//! `cargo xtask docs` makes the book's table of them.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $advice:literal,)+) => {
        /// The reason of a condition, an attempt or an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, in the order of the book's table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The reason as conditions spell it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The doc comment of the reason: its meaning, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// The advice to the user: what to do next.
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

/// The text is not a [`Reason`] that this version knows.
#[derive(Debug, thiserror::Error)]
#[error("not a reason that this version knows")]
pub struct UnknownReason;

reasons! {
    /// The register call succeeded.
    RegistrationSucceeded => "Nothing to do.",
    /// The number was registered before any register call was made.
    AlreadyRegistered => "Nothing to do.",
    /// The answer to a register call was lost or unclear, and a later read showed the number as registered.
    OutcomeConfirmed => "Nothing to do.",
    /// A register call is claimed and may be in flight.
    Registering => "Wait: the outcome is recorded as soon as it is known.",
    /// The number is suspended.
    Suspended => "Set spec.suspend to false to resume.",
    /// A Secret that the spec references does not exist.
    SecretNotFound => "Create the Secret; the operator retries automatically.",
    /// A Secret lacks the key that the spec references.
    SecretKeyMissing => "Add the key to the Secret, or correct the key in the spec; the operator retries automatically.",
    /// The operator is not allowed to read a Secret that the spec references.
    SecretForbidden => "Grant the operator the verb get on Secrets in this namespace; it retries every minute.",
    /// The token or the app secret is malformed: empty, or it contains whitespace, control characters or non-ASCII text.
    InvalidToken => "Store the token or the app secret as plain text in the Secret; the operator retries automatically.",
    /// The PIN is not six ASCII digits.
    InvalidPin => "Store the six digits as text in the Secret; the operator retries automatically.",
    /// The password or the data of the backup is empty or not text.
    InvalidBackup => "Store the password and the data of the backup as text in the Secret; the operator retries automatically.",
    /// Another resource with the same phone number ID takes precedence.
    DuplicatePhoneNumber => "Delete one of the two resources; this one takes over automatically when the other is gone.",
    /// The automatic attempts of 72 hours are used up.
    AttemptBudgetExhausted => "Find out why the attempts failed (status.attempts) and fix the cause; the operator retries automatically as soon as the budget allows.",
    /// The API server drops status fields that the operator relies on: its CRD is older than the operator.
    DefinitionOutdated => "Upgrade the CRD to the operator's version (see the upgrade notes of the chart); the operator retries within ten minutes after that.",
    /// Graph does not accept the access token.
    TokenRejected => "Put a valid token of a system user into the Secret; the operator notices the new token automatically.",
    /// The token is not allowed to manage this number.
    PermissionDenied => "Assign the WhatsApp account to the system user and grant whatsapp_business_management, then put a new token into the Secret or set the annotation whatsapp-operator.dev/register-requested-at to a new value.",
    /// Graph does not know the phone number ID, or the token has no access to it.
    PhoneNumberNotFound => "Compare spec.phoneNumberID with WhatsApp Manager. If it is wrong, create a resource with the right ID; else assign the WhatsApp account to the system user, then set the annotation whatsapp-operator.dev/register-requested-at to a new value.",
    /// Graph asks for an app secret proof, or does not accept it.
    AppSecretRejected => "Put the app secret of the token's app into a Secret and name it in spec.appSecretRef; the operator notices the change automatically.",
    /// The number is connected to the WhatsApp Business app, for which Meta refuses register calls.
    BusinessAppNumber => "Connect the number by Embedded Signup with coexistence instead of registering it. Do not delete the account in the app: that ends the link. Once the number has left the app, set the annotation whatsapp-operator.dev/register-requested-at to a new value.",
    /// The number has two-step verification with another PIN.
    PinMismatch => "Put the number's PIN into the Secret, or reset it in WhatsApp Manager first; the operator notices a new PIN automatically. Do not guess: wrong PINs lock the number.",
    /// Too many wrong PINs were tried.
    PinLocked => "Put the right PIN into the Secret, and wait until Meta lifts the lock.",
    /// Meta has locked or restricted the account.
    AccountLocked => "Check Business Support Home, then set the annotation whatsapp-operator.dev/register-requested-at to a new value.",
    /// The ownership of the number is not verified.
    OwnershipNotVerified => "Verify the number by code (request_code, verify_code) in WhatsApp Manager, then set the annotation whatsapp-operator.dev/register-requested-at to a new value.",
    /// Meta cannot create the certificate: the display name is not processed yet, or another account holds the number.
    CertificateUnavailable => "Check the display name, and whether another WhatsApp account holds the number.",
    /// Graph rejected the request as invalid.
    InvalidRequest => "Correct what Graph's message names. The operator notices a change of the spec or the Secrets automatically; after any other fix, set the annotation whatsapp-operator.dev/register-requested-at to a new value.",
    /// The number was deregistered or deleted minutes ago.
    RecentlyDeregistered => "Wait: Meta needs a few minutes.",
    /// An earlier deregistration is incomplete.
    DeregistrationIncomplete => "Deregister the number again, then set the annotation whatsapp-operator.dev/register-requested-at to a new value.",
    /// Meta has blocked register calls for this number for 72 hours, after ten of them.
    RegistrationBlocked => "Wait, make no register call elsewhere, and find out why the calls failed (status.attempts).",
    /// The app, the token or the account has reached a rate limit.
    RateLimited => "Wait, and make fewer calls with this app.",
    /// Graph has a temporary fault.
    GraphUnavailable => "Wait: the operator retries automatically.",
    /// Graph could not be reached; nothing was sent.
    GraphUnreachable => "Check DNS, proxy, firewall and network policy between the operator and Graph; the operator retries automatically.",
    /// A register call was claimed and not sent; it cost nothing.
    NotSent => "Wait: the operator retries automatically.",
    /// The register call has no readable answer: it may have taken effect.
    OutcomeUnknown => "Wait: the operator reads the number to find out.",
    /// A registered number is no longer registered with the Cloud API, as two reads have shown.
    RegistrationLost => "Find out who deregistered or moved the number. To have it registered again, set the annotation whatsapp-operator.dev/register-requested-at to a new value, or spec.lossPolicy to Register; if it is registered elsewhere on purpose, delete this resource.",
    /// The last observation of the number had a usable answer.
    ObservationSucceeded => "Nothing to do.",
    /// The resource is being deleted, and the number is being taken off the Cloud API first.
    Deregistering => "To leave the number registered and let the resource go at once, set spec.deletionPolicy to Retain.",
    /// The number was taken off the Cloud API because its resource was deleted.
    Deregistered => "Nothing to do.",
    /// Graph refuses to take the number off the Cloud API.
    DeregistrationFailed => "Correct what Graph's message names, then put a new token into the Secret; or deregister the number in WhatsApp Manager; or set spec.deletionPolicy to Retain to leave the number registered and let the resource go.",
    /// Graph answered without an error and without success.
    RegistrationRejected => "Check the number in WhatsApp Manager, then set the annotation whatsapp-operator.dev/register-requested-at to a new value.",
}

/// The step that finds a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A check of what Kubernetes knows, before anything is sent.
    Check,
    /// A read of the number, and never the answer to a register call.
    Read,
    /// A register call; includes the reasons that Graph also gives to a read.
    Call,
}

/// The consequence of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Registered: nothing is left to do.
    Done,
    /// Retry automatically, with backoff.
    Retry,
    /// Retry after a wait of its own, for this many attempts in a row, then stall.
    RetryN(u32),
    /// Stop until the user changes something.
    Stall,
    /// Read the number until the confirm window is over, then retry.
    Confirm,
    /// Read the number until the confirm window is over, then stall.
    ConfirmThenStall,
}

impl Reason {
    /// The consequence of a register call that ended with this reason; [`Operation::disposition`](super::Operation) has that of any call.
    pub const fn disposition(self) -> Disposition {
        match self {
            Self::RegistrationSucceeded | Self::AlreadyRegistered | Self::OutcomeConfirmed => {
                Disposition::Done
            }
            Self::TokenRejected
            | Self::PermissionDenied
            | Self::PhoneNumberNotFound
            | Self::AppSecretRejected
            | Self::BusinessAppNumber
            | Self::PinMismatch
            | Self::AccountLocked
            | Self::OwnershipNotVerified
            | Self::InvalidRequest
            | Self::DeregistrationIncomplete
            | Self::InvalidToken
            | Self::InvalidPin
            | Self::InvalidBackup
            | Self::DuplicatePhoneNumber
            | Self::RegistrationLost
            | Self::DeregistrationFailed => Disposition::Stall,
            Self::PinLocked => Disposition::RetryN(2),
            Self::CertificateUnavailable => Disposition::RetryN(3),
            Self::OutcomeUnknown | Self::Registering | Self::Deregistering => Disposition::Confirm,
            Self::RegistrationRejected => Disposition::ConfirmThenStall,
            Self::Suspended
            | Self::SecretNotFound
            | Self::SecretKeyMissing
            | Self::SecretForbidden
            | Self::AttemptBudgetExhausted
            | Self::DefinitionOutdated
            | Self::RecentlyDeregistered
            | Self::RegistrationBlocked
            | Self::RateLimited
            | Self::GraphUnavailable
            | Self::GraphUnreachable
            | Self::ObservationSucceeded
            | Self::Deregistered
            | Self::NotSent => Disposition::Retry,
        }
    }

    /// The step that finds it.
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
            | Self::AttemptBudgetExhausted
            | Self::DefinitionOutdated => Source::Check,
            Self::AlreadyRegistered
            | Self::OutcomeConfirmed
            | Self::RegistrationLost
            | Self::ObservationSucceeded => Source::Read,
            _ => Source::Call,
        }
    }

    /// Whether a register call can end with it; the others are found before a call, or without one.
    pub const fn ends_an_attempt(self) -> bool {
        match self.source() {
            Source::Check => false,
            Source::Read => matches!(self, Self::OutcomeConfirmed),
            Source::Call => !matches!(
                self,
                Self::Registering
                    | Self::Deregistering
                    | Self::Deregistered
                    | Self::DeregistrationFailed
            ),
        }
    }

    /// Whether a Secret is missing or wrong.
    pub const fn is_secret_fault(self) -> bool {
        matches!(
            self,
            Self::SecretNotFound
                | Self::SecretKeyMissing
                | Self::SecretForbidden
                | Self::InvalidToken
                | Self::InvalidPin
                | Self::InvalidBackup
        )
    }

    /// Whether no call can succeed when Graph gives this reason to a read: the token, the ID, the account or the number stands
    /// against it.
    pub const fn ends_reads(self) -> bool {
        matches!(
            self,
            Self::TokenRejected
                | Self::PermissionDenied
                | Self::PhoneNumberNotFound
                | Self::AppSecretRejected
                | Self::BusinessAppNumber
                | Self::AccountLocked
        )
    }

    /// Whether it stands against who calls, and not against the number: another resource of the number may be able to call.
    pub const fn is_about_caller(self) -> bool {
        matches!(
            self,
            Self::TokenRejected
                | Self::PermissionDenied
                | Self::AppSecretRejected
                | Self::PhoneNumberNotFound
                | Self::InvalidRequest
        )
    }

    /// Whether Graph has refused the PIN.
    pub const fn is_about_pin(self) -> bool {
        matches!(self, Self::PinMismatch | Self::PinLocked)
    }

    /// Whether the number counts as registered with this reason.
    pub const fn is_registered(self) -> bool {
        matches!(self.disposition(), Disposition::Done)
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
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
