# Thin names for ./run.sh, which works without make, too.
.PHONY: help demo figures notebooks report test lint setup
.DEFAULT_GOAL := help

help: ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: ## compare Lion and AdamW on a small proxy: sets up .venv once, then about 130 core-seconds
	@./run.sh demo

report: ## write results/report/: claims, figures and sweeps as pages that work offline
	@./run.sh report

test: ## run the tests (sets up .venv once)
	@./run.sh test

lint: ## check style and types
	@./run.sh lint

figures: ## rebuild every figure in results/figures from the committed tables (30 core-seconds)
	@./run.sh figures

notebooks: ## execute the notebooks again and write their outputs (60 core-seconds)
	@./run.sh notebooks

setup: ## only set up .venv
	@./run.sh setup
