//! `POST /api/payment`: pays an order from an account. Both are locked together and written together.

use serde::Deserialize;

use super::deduct::enough;
use crate::bank::Bank;
use crate::bank::limits::check_name;
use crate::bank::problem::BankError;
use crate::bank::teller::{Caller, Effect, Receipt, Subject};
use crate::store::{Account, Order};

/// Who pays what.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::bank) struct Payment {
    user_id: String,
    order_id: String,
}

/// Pays a pending order, or says why not. A caller's own fencing token is the account's.
pub(in crate::bank) async fn pay(
    bank: &Bank,
    payment: Payment,
    caller: Caller,
) -> Result<Receipt, BankError> {
    check_name("userId", &payment.user_id)?;
    check_name("orderId", &payment.order_id)?;
    let subject = Subject {
        user_id: Some(payment.user_id.clone()),
        order: Some(payment.order_id.clone()),
    };
    let decide = move |account: Option<&Account>, order: Option<&Order>| {
        let order =
            order.ok_or_else(|| BankError::NotFound(format!("order {}", payment.order_id)))?;
        if order.status != "pending" {
            let status = order.status.clone();
            return Err(BankError::Status {
                status,
                from: "pending",
                to: "paid".to_owned(),
            });
        }
        enough(account, &payment.user_id, order.amount)?;
        Ok(Effect {
            amount: Some(order.amount),
            status: Some("paid".to_owned()),
        })
    };
    let outcome = bank.teller.serve(&subject, caller, &decide).await;
    bank.metrics.deduction(
        bank.teller.mode,
        outcome.as_ref().map_or_else(BankError::code, |_| "applied"),
    );
    outcome
}
