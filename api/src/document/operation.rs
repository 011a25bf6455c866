//! One call: how it is made, what it needs, and what it answers.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

/// The schema of a type.
pub type Shape = fn(&mut SchemaGenerator) -> Schema;

/// The scope that a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// None.
    Nothing,
    /// `read`.
    Read,
    /// `register`.
    Register,
    /// `write`.
    Write,
    /// `admin`.
    Admin,
}

impl Need {
    /// The name of the scope; empty where none is needed.
    pub fn scope(self) -> &'static str {
        match self {
            Need::Nothing => "",
            Need::Read => "read",
            Need::Register => "register",
            Need::Write => "write",
            Need::Admin => "admin",
        }
    }
}

/// The form of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Base,
    V1,
}

/// A parameter of path, query or header.
#[derive(Debug, Clone)]
pub struct Parameter {
    name: &'static str,
    place: &'static str,
    is_required: Option<bool>,
    description: Option<&'static str>,
    schema: Value,
}

impl Parameter {
    /// As the document has it.
    pub fn describe(&self) -> Value {
        let mut item = json!({ "name": self.name, "in": self.place });
        if let Some(is_required) = self.is_required {
            item["required"] = is_required.into();
        }
        if let Some(description) = self.description {
            item["description"] = description.into();
        }
        item["schema"] = self.schema.clone();
        item
    }
}

/// What a call that succeeds answers.
#[derive(Debug, Clone)]
pub struct Answer {
    pub description: &'static str,
    pub content_type: &'static str,
    pub shape: Shape,
    /// Name and description.
    pub header: Option<(&'static str, &'static str)>,
}

/// What a call that fails answers.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    pub words: &'static str,
    /// The usual shape of errors where none is given.
    pub shape: Option<Shape>,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Operation {
    /// In capitals.
    pub method: &'static str,
    /// With parameters in braces.
    pub path: &'static str,
    /// What it needs.
    pub need: Need,
    /// What it does.
    pub summary: &'static str,
    pub(super) description: Option<&'static str>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) request: Option<Shape>,
    pub(super) answer: Answer,
    pub(super) refusals: Vec<Refusal>,
}

/// A call that answers a `T`.
pub fn call<T: JsonSchema>(
    method: &'static str,
    path: &'static str,
    need: Need,
    summary: &'static str,
    description: &'static str,
) -> Operation {
    Operation {
        method,
        path,
        need,
        summary,
        description: None,
        parameters: Vec::new(),
        request: None,
        answer: Answer {
            description,
            content_type: "application/json",
            shape: |generator| generator.subschema_for::<T>(),
            header: None,
        },
        refusals: Vec::new(),
    }
    .refuses(match need {
        Need::Nothing => &[403],
        Need::Read | Need::Register | Need::Write | Need::Admin => &[401, 403],
    })
    .refuses(match (is_v1(path), need) {
        (true, Need::Read | Need::Register | Need::Write | Need::Admin) => &[429],
        (true, Need::Nothing) | (false, _) => &[],
    })
    .refuses(match method {
        "GET" => &[],
        _ => &[415],
    })
}

fn is_v1(path: &str) -> bool {
    path.starts_with("/api/v1/")
}

impl Operation {
    pub(super) fn form(&self) -> Form {
        match is_v1(self.path) {
            true => Form::V1,
            false => Form::Base,
        }
    }

    pub(super) fn about(self, description: &'static str) -> Operation {
        Operation {
            description: Some(description),
            ..self
        }
    }

    /// It takes a `T`.
    pub(super) fn takes<T: JsonSchema>(self) -> Operation {
        let request: Shape = |generator| generator.subschema_for::<T>();
        Operation {
            request: Some(request),
            ..self
        }
        .refuses(&[400, 408, 413])
    }

    pub(super) fn answers_as(mut self, content_type: &'static str) -> Operation {
        self.answer.content_type = content_type;
        self
    }

    /// The answer names the tag of the edits.
    pub(super) fn tagged(mut self) -> Operation {
        self.answer.header = Some(("ETag", "The tag of the current edits, for If-Match"));
        self
    }

    pub(super) fn sets_cookie(mut self) -> Operation {
        let about = "The session; HttpOnly and SameSite=Strict, Secure over https";
        self.answer.header = Some(("Set-Cookie", about));
        self
    }

    pub(super) fn refuses(mut self, statuses: &[u16]) -> Operation {
        let new = statuses.iter().map(|&status| Refusal {
            status,
            words: words(status),
            shape: None,
        });
        self.refusals.extend(new);
        self
    }

    /// The same with words of its own.
    pub(super) fn refuses_as(mut self, status: u16, words: &'static str) -> Operation {
        self.refusals.push(Refusal {
            status,
            words,
            shape: None,
        });
        self
    }

    /// The same with a shape of its own.
    pub(super) fn refuses_with<T: JsonSchema>(
        mut self,
        status: u16,
        words: &'static str,
    ) -> Operation {
        let shape: Shape = |generator| generator.subschema_for::<T>();
        self.refusals.push(Refusal {
            status,
            words,
            shape: Some(shape),
        });
        self
    }

    /// A change that is stored and published.
    pub(super) fn stores(self) -> Operation {
        self.refuses(&[503, 507])
    }

    pub(super) fn path(
        self,
        name: &'static str,
        description: &'static str,
        schema: Value,
    ) -> Operation {
        self.with(name, "path", Some(true), description, schema)
    }

    pub(super) fn query(
        self,
        name: &'static str,
        description: &'static str,
        schema: Value,
    ) -> Operation {
        self.with(name, "query", None, description, schema)
    }

    pub(super) fn header(
        self,
        name: &'static str,
        is_required: Option<bool>,
        description: &'static str,
    ) -> Operation {
        self.with(
            name,
            "header",
            is_required,
            description,
            json!({ "type": "string" }),
        )
    }

    fn with(
        mut self,
        name: &'static str,
        place: &'static str,
        is_required: Option<bool>,
        description: &'static str,
        schema: Value,
    ) -> Operation {
        self.parameters.push(Parameter {
            name,
            place,
            is_required,
            description: (!description.is_empty()).then_some(description),
            schema,
        });
        self
    }
}

/// What a status means, if a call says nothing else.
fn words(status: u16) -> &'static str {
    match status {
        400 => "The request has faults; the answer names each one",
        401 => "A token is needed",
        403 => "The token lacks the scope, or the request comes from another site",
        404 => "No such backend",
        408 => "The body did not arrive in time",
        409 => "Conflicts with the current state",
        412 => "Someone else has edited since the ETag was read",
        413 => "The body is too large",
        415 => "The body is not JSON",
        428 => "If-Match is missing",
        429 => "Too many requests; Retry-After says when to try again",
        503 => "It could not be stored or published",
        507 => "The disk is full",
        _ => unreachable!("each status of the table has its words"),
    }
}
