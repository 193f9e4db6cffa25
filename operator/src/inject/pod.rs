//! A pod as raw JSON, read and never written.

use serde_json::{Map, Value};

use pawl_crds::names::{SIDECAR_CONTAINER, annotations, labels};

use super::refusal::Refusal;

/// The lists of containers of a pod, in the order in which they start.
pub(super) const LISTS: [&str; 2] = ["initContainers", "containers"];

/// A pod of which it is known that everything that is looked at has the right shape: what should be an object or a list
/// is one, or is not there.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a>(&'a Value);

/// A container and where it is.
#[derive(Clone, Copy)]
pub(super) struct Container<'a> {
    /// `initContainers` or `containers`.
    pub(super) list: &'static str,
    /// Where in that list.
    pub(super) index: usize,
    /// The container.
    pub(super) value: &'a Value,
}

impl<'a> Pod<'a> {
    /// # Errors
    /// When it is no pod: the field that is not what it should be.
    pub(super) fn try_new(value: &'a Value) -> Result<Self, Refusal> {
        let wrong = |at: String, what| Refusal::new(at, format!("is not {what}"), "send a pod");
        let object = |at: &str, value: &Value| {
            if value.is_object() || value.is_null() {
                Ok(())
            } else {
                Err(wrong(at.to_owned(), "an object"))
            }
        };
        if !value["spec"].is_object() {
            return Err(wrong("spec".to_owned(), "an object"));
        }
        object("metadata", &value["metadata"])?;
        object("metadata.labels", &value["metadata"]["labels"])?;
        object("metadata.annotations", &value["metadata"]["annotations"])?;
        let objects = |at: String, list: &Value| match list {
            Value::Null => Ok(()),
            Value::Array(items) if items.iter().all(Value::is_object) => Ok(()),
            _ => Err(wrong(at, "a list of objects")),
        };
        objects("spec.volumes".to_owned(), &value["spec"]["volumes"])?;
        for list in LISTS {
            objects(format!("spec.{list}"), &value["spec"][list])?;
            for (index, container) in items(&value["spec"][list]).iter().enumerate() {
                for field in ["env", "ports", "volumeMounts"] {
                    let at = format!("spec.{list}[{index}].{field}");
                    objects(at, &container[field])?;
                }
            }
        }
        Ok(Self(value))
    }

    pub(super) fn spec(self) -> &'a Value {
        &self.0["spec"]
    }

    pub(super) fn has_metadata(self) -> bool {
        self.0["metadata"].is_object()
    }

    pub(super) fn annotations(self) -> Option<&'a Map<String, Value>> {
        self.0["metadata"]["annotations"].as_object()
    }

    pub(super) fn volumes(self) -> &'a [Value] {
        items(&self.spec()["volumes"])
    }

    /// Whether the user asks for a sidecar.
    pub(super) fn is_labelled(value: &Value) -> bool {
        value["metadata"]["labels"][labels::INJECT] == "true"
    }

    /// All containers, also a sidecar of ours.
    pub(super) fn containers(self) -> impl Iterator<Item = Container<'a>> {
        LISTS.into_iter().flat_map(move |list| {
            let containers = items(&self.spec()[list]).iter().enumerate();
            containers.map(move |(index, value)| Container { list, index, value })
        })
    }

    /// The sidecar that an earlier review has put in.
    pub(super) fn sidecar(self) -> Option<Container<'a>> {
        let marked = self
            .annotations()
            .is_some_and(|all| all.get(annotations::INJECTED).is_some_and(Value::is_string));
        self.containers().find(|container| {
            marked
                && container.is_named_as_ours()
                && container.list == LISTS[0]
                && container.value["restartPolicy"] == "Always"
        })
    }
}

impl<'a> Container<'a> {
    pub(super) fn name(self) -> &'a str {
        self.value["name"].as_str().unwrap_or_default()
    }

    pub(super) fn is_named_as_ours(self) -> bool {
        self.name() == SIDECAR_CONTAINER
    }

    pub(super) fn env(self) -> &'a [Value] {
        items(&self.value["env"])
    }

    /// The value of an environment variable that is written out.
    pub(super) fn variable(self, name: &str) -> Option<&'a str> {
        let found = self.env().iter().find(|variable| variable["name"] == name);
        found?["value"].as_str()
    }

    pub(super) fn mounts(self) -> &'a [Value] {
        items(&self.value["volumeMounts"])
    }

    pub(super) fn ports(self) -> &'a [Value] {
        items(&self.value["ports"])
    }

    /// Where it is, for people.
    pub(super) fn path(self) -> String {
        format!("spec.{}[{}]", self.list, self.index)
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_the_wrong_shape_is_named() {
        for (pod, at) in [
            (json!({}), "spec: "),
            (json!({"spec": []}), "spec: "),
            (json!({"spec": {}, "metadata": 1}), "metadata: "),
            (
                json!({"spec": {}, "metadata": {"annotations": []}}),
                "metadata.annotations: ",
            ),
            (
                json!({"spec": {"initContainers": {}}}),
                "spec.initContainers: ",
            ),
            (json!({"spec": {"containers": [1]}}), "spec.containers: "),
            (
                json!({"spec": {"containers": [{"env": "x"}]}}),
                "spec.containers[0].env: ",
            ),
        ] {
            let refusal = Pod::try_new(&pod).err().unwrap().to_string();
            assert!(refusal.starts_with(at), "{refusal}");
        }
        let pod = json!({"spec": {"initContainers": null, "volumes": []}, "metadata": null});
        assert!(Pod::try_new(&pod).is_ok());
    }
}
