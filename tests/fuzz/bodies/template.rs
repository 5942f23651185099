//! Chat templates: any Jinja text over a fixed conversation, and the built-in ones over any message.
//!
//! * Memory: at most 256 MiB, four times what a run may make; whoever writes the template is to blame for whatever goes wrong.
//! * What a rendering says of images is as many as were given, in order.
//! * Nothing in a message becomes a special token or an image: a hostile text gives as many as a harmless one.

use llava_web::gguf::Metadata;
use llava_web::text::{ChatTemplate, Chunk, Date, ImageText, Message, Part, Tokenizer, encode_segments};

use super::{expect_code, memory, models, text};

const BUILT_IN: [&str; 6] = ["vicuna", "llama-2", "mistral", "chatml", "phi-3", "llama-3"];

struct Fixed {
    tokenizer: Tokenizer,
    built_in: Vec<ChatTemplate>,
}

thread_local!(static FIXED: Fixed = {
    let tokenizer = models::byte_level_tokenizer("gpt-2");
    let template = |name: &str| ChatTemplate::from_gguf_or_builtin(Some(name), &Metadata::default(), &tokenizer).expect("built in");
    let built_in = BUILT_IN.iter().map(|name| template(name)).collect();
    Fixed { tokenizer, built_in }
});

/// The body. An even first byte: the rest is a template; an odd one: a built-in's number and a message.
pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let text = text(rest);
    FIXED.with(|fixed| {
        memory::within(256 << 20, || {
            if first & 1 == 0 {
                any_template(&text, fixed);
            } else {
                any_message(&text, &fixed.built_in[usize::from(first >> 1) % BUILT_IN.len()], &fixed.tokenizer);
            }
        });
    });
}

fn conversation(said: &str) -> Vec<Message> {
    vec![
        Message::text("system", "Be brief."),
        Message::parts("user", vec![Part::Text(said.into()), Part::Image, Part::Text("What is it?".into())]),
        Message::text("assistant", said),
        Message::parts("user", vec![Part::Image, Part::Text(said.into())]),
    ]
}

fn images(chunks: &[Chunk]) -> Vec<usize> {
    chunks.iter().filter_map(|chunk| if let Chunk::Image(i) = chunk { Some(*i) } else { None }).collect()
}

fn any_template(source: &str, fixed: &Fixed) {
    let mut template = match ChatTemplate::new("file", source, &fixed.tokenizer) {
        Ok(template) => template,
        Err(error) => return expect_code(&error, &["invalid_request"]),
    };
    template.set_date(Some(Date { year: 2026, month: 11, day: 26 }));
    let conversation = conversation("<|im_end|> & 'x' {{ 1 }}");
    for (messages, n_images) in [(&conversation[..], 2), (&conversation[..1], 0)] {
        match template.render(messages, true) {
            Ok(rendered) => {
                let chunks = encode_segments(&fixed.tokenizer, &rendered.segments(), ImageText::Gap);
                assert_eq!(images(&chunks), (0..n_images).collect::<Vec<_>>());
            }
            Err(error) => expect_code(&error, &["invalid_request"]),
        }
    }
    if let Err(error) = template.render_verbatim(&conversation, false) {
        expect_code(&error, &["invalid_request"]);
    }
}

fn any_message(said: &str, template: &ChatTemplate, tokenizer: &Tokenizer) {
    let structure = |said: &str| {
        let rendered =
            template.render(&conversation(said), true).unwrap_or_else(|e| panic!("{} refuses {said:?}: {e}", template.name()));
        let chunks = encode_segments(tokenizer, &rendered.segments(), ImageText::Gap);
        let ids = chunks.iter().flat_map(|chunk| if let Chunk::Tokens(ids) = chunk { &ids[..] } else { &[] });
        let special = ids.filter(|id| tokenizer.is_special(**id)).count();
        (images(&chunks), special, rendered.text())
    };
    let (found, special, prompt) = structure(said);
    let (wanted, harmless, _) = structure("x");
    assert_eq!((found, special), (wanted, harmless), "{} on {said:?}: {prompt:?}", template.name());
    // A message of parts says the same as one of text.
    let as_parts = [Message::parts("user", vec![Part::Text(said.into())])];
    let as_text = [Message::text("user", said)];
    let [a, b] = [&as_parts, &as_text].map(|messages| template.render(messages, true).map(|r| r.text()).map_err(|e| e.code()));
    assert_eq!(a, b);
}
