//! `POST /api/deduct`: takes money from an account that has enough.

use serde::Deserialize;

use crate::bank::Bank;
use crate::bank::limits::{check_amount, check_name};
use crate::bank::problem::BankError;
use crate::bank::teller::{Caller, Effect, Receipt, Subject};
use crate::store::{Account, Order};

/// What is taken from whom.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::bank) struct Deduct {
    user_id: String,
    amount: i64,
}

/// Takes the money, or says why not.
pub(in crate::bank) async fn deduct(
    bank: &Bank,
    deduct: Deduct,
    caller: Caller,
) -> Result<Receipt, BankError> {
    check_name("userId", &deduct.user_id)?;
    check_amount("amount", deduct.amount)?;
    let subject = Subject {
        user_id: Some(deduct.user_id.clone()),
        order: None,
    };
    let decide = move |account: Option<&Account>, _: Option<&Order>| {
        let amount = deduct.amount;
        enough(account, &deduct.user_id, amount)?;
        Ok(Effect {
            amount: Some(amount),
            status: None,
        })
    };
    let outcome = bank.teller.serve(&subject, caller, &decide).await;
    bank.metrics.deduction(
        bank.teller.mode,
        outcome.as_ref().map_or_else(BankError::code, |_| "applied"),
    );
    outcome
}

/// The check that the write hangs on.
pub(super) fn enough(
    account: Option<&Account>,
    user_id: &str,
    amount: i64,
) -> Result<(), BankError> {
    let account = account.ok_or_else(|| BankError::NotFound(format!("account {user_id}")))?;
    if account.balance < amount {
        return Err(BankError::Insufficient {
            balance: account.balance,
            amount,
        });
    }
    Ok(())
}
