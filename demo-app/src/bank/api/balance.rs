//! `POST /api/balance/init` and `GET /api/balance/{userId}`.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::bank::Bank;
use crate::bank::limits::{MAX_AMOUNT, check_name};
use crate::bank::problem::BankError;
use crate::store::Account;

/// What opens an account.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::bank) struct Init {
    user_id: String,
    balance: i64,
}

/// Opens an account, or opens it again.
pub(in crate::bank) async fn init(bank: &Bank, init: Init) -> Result<Value, BankError> {
    check_name("userId", &init.user_id)?;
    if !(0..=MAX_AMOUNT).contains(&init.balance) {
        let text = format!("balance: write a whole number of units from 0 to {MAX_AMOUNT}");
        return Err(BankError::Invalid(text));
    }
    Ok(view(
        &bank
            .teller
            .store
            .open_account(&init.user_id, init.balance)
            .await?,
    ))
}

/// Reads an account.
pub(in crate::bank) async fn get(bank: &Bank, user_id: &str) -> Result<Value, BankError> {
    check_name("userId", user_id)?;
    let account = bank.teller.store.account(user_id).await?;
    account
        .as_ref()
        .map(view)
        .ok_or_else(|| BankError::NotFound(format!("account {user_id}")))
}

/// An account as the API shows it.
pub(in crate::bank) fn view(account: &Account) -> Value {
    json!({
        "userId": account.user_id,
        "initial": account.initial,
        "balance": account.balance,
        "expected": account.expected(),
        "deductions": account.applied,
        "lostUpdates": account.lost_updates(),
        "lastToken": account.last_token,
    })
}
