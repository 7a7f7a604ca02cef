"""LangChain pointed at a gateway: nothing but the base URL and the key is Trine's.

    pip install langchain-openai && python docs/examples/with_langchain.py

Environment: OPENAI_BASE_URL, OPENAI_API_KEY.
"""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="smollm2-135m-instruct", max_tokens=16, include_response_headers=True)
chain = ChatPromptTemplate.from_template("Name a {thing}.") | model | StrOutputParser()

print(chain.invoke({"thing": "river"}))
print(chain.batch([{"thing": "city"}, {"thing": "bird"}]))
for text in chain.stream({"thing": "river"}):
    print(text, end="", flush=True)
print()

# The verdict comes along where the gateway is asked to wait for it.
judged = model.bind(extra_headers={"x-trine-wait": "verdict"}).invoke("Name a tree.")
print(judged.content, judged.usage_metadata)
print(judged.response_metadata["headers"]["x-trine-verdict"], judged.response_metadata["headers"]["x-trine-receipt"])
