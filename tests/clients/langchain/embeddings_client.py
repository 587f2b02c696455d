"""LangChain's OpenAIEmbeddings. It sends texts: its tokens would be those of OpenAI's models."""

import sys

from cases import case, main, refused
from langchain_openai import OpenAIEmbeddings

TEXTS = ["A cat sleeps on the sofa.", "Le chat dort.", "Die Katze schläft auf dem Sofa. " * 8]


def embeddings(model="all-minilm-l6-v2", **options):
    return OpenAIEmbeddings(
        model=model,
        base_url=f"{sys.argv[1]}/v1",
        api_key="none",
        check_embedding_ctx_length=False,
        max_retries=0,
        **options,
    )


@case
def documents():
    return {"texts": TEXTS, "vectors": embeddings().embed_documents(TEXTS)}


@case
def query():
    return embeddings().embed_query(TEXTS[0])


@case
def unknown_model():
    return refused(lambda: embeddings("other").embed_query("A text"))


@case
def too_long():
    return refused(lambda: embeddings().embed_query("word " * 400))


main()
