# vLLM with Ray, for a model on the GPUs of several machines: docker build -f deploy/images/vllm-ray.Dockerfile -t vllm-ray:0.32.0 .
FROM vllm/vllm-openai:v0.32.0
RUN pip install --no-cache-dir "ray[cgraph]==2.60.0"
