//! `GET|POST|PATCH /api/orders/{id}`: something small that a fencing token guards.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::bank::Bank;
use crate::bank::limits::{check_amount, check_name};
use crate::bank::problem::BankError;
use crate::bank::teller::{Caller, Effect, Receipt, Subject};
use crate::store::{Account, Order};

/// A new order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::bank) struct NewOrder {
    amount: i64,
}

/// A change of an order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::bank) struct OrderPatch {
    status: Status,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Paid,
    Shipped,
    Cancelled,
}

impl Status {
    /// Its name, and the only status that it can follow.
    fn step(self) -> (&'static str, &'static str) {
        match self {
            Self::Paid => ("paid", "pending"),
            Self::Shipped => ("shipped", "paid"),
            Self::Cancelled => ("cancelled", "pending"),
        }
    }
}

/// Reads an order.
pub(in crate::bank) async fn get(bank: &Bank, id: &str) -> Result<Value, BankError> {
    check_name("the order's name", id)?;
    let order = bank
        .teller
        .store
        .order(id)
        .await?
        .ok_or_else(|| BankError::NotFound(format!("order {id}")))?;
    Ok(json!(order))
}

/// Makes an order. The store's unique name keeps it from being made twice, so no lock is needed; the
/// caller's token, if any, is the first that the fence remembers.
pub(in crate::bank) async fn create(
    bank: &Bank,
    id: &str,
    new: NewOrder,
    caller: Caller,
) -> Result<Value, BankError> {
    check_name("the order's name", id)?;
    check_amount("amount", new.amount)?;
    let token = caller.token.filter(|_| bank.teller.fencing);
    if !bank
        .teller
        .store
        .create_order(id, new.amount, token)
        .await?
    {
        return Err(BankError::Exists(id.to_owned()));
    }
    get(bank, id).await
}

/// Changes an order's status.
pub(in crate::bank) async fn patch(
    bank: &Bank,
    id: &str,
    patch: OrderPatch,
    caller: Caller,
) -> Result<Receipt, BankError> {
    check_name("the order's name", id)?;
    let subject = Subject {
        user_id: None,
        order: Some(id.to_owned()),
    };
    let (name, (to, from)) = (id.to_owned(), patch.status.step());
    let decide = move |_: Option<&Account>, order: Option<&Order>| {
        let order = order.ok_or_else(|| BankError::NotFound(format!("order {name}")))?;
        if order.status != from {
            return Err(BankError::Status {
                status: order.status.clone(),
                from,
                to: to.to_owned(),
            });
        }
        Ok(Effect {
            amount: None,
            status: Some(to.to_owned()),
        })
    };
    bank.teller.serve(&subject, caller, &decide).await
}
