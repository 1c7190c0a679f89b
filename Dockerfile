# eot with all that hosted models and llama.cpp need: no torch. Every package is checked by its hash.
FROM python:3.11-slim

RUN useradd --create-home eot
WORKDIR /src
COPY requirements/ requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/build.txt \
 && pip install --no-cache-dir --require-hashes -r requirements/run.txt
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && rm -rf /src/*

USER eot
WORKDIR /home/eot
ENV EOT_HOME=/home/eot/home
RUN mkdir home
EXPOSE 8000
CMD ["eot", "serve"]
