package ci

import (
	"fmt"
	"io"
)

// gitlabPipeline is what a child pipeline has of GitLab's CI/CD YAML.
type gitlabPipeline struct {
	Workflow gitlabWorkflow `yaml:"workflow"`
	Stages   []string       `yaml:"stages"`
	Shard    gitlabJob      `yaml:"shard"`
	Verdict  gitlabJob      `yaml:"verdict"`
}

type gitlabWorkflow struct {
	Rules []gitlabRule `yaml:"rules"`
}

type gitlabRule struct {
	If   string `yaml:"if,omitempty"`
	When string `yaml:"when,omitempty"`
}

type gitlabJob struct {
	Stage     string          `yaml:"stage"`
	Image     string          `yaml:"image,omitempty"`
	Tags      []string        `yaml:"tags,omitempty,flow"`
	Parallel  int             `yaml:"parallel,omitempty"`
	When      string          `yaml:"when,omitempty"`
	Needs     []gitlabNeed    `yaml:"needs,omitempty"`
	Script    []string        `yaml:"script"`
	Artifacts gitlabArtifacts `yaml:"artifacts"`
}

type gitlabNeed struct {
	Job       string `yaml:"job"`
	Artifacts bool   `yaml:"artifacts"`
}

type gitlabArtifacts struct {
	When     string        `yaml:"when"`
	ExpireIn string        `yaml:"expire_in"`
	Paths    []string      `yaml:"paths"`
	Reports  gitlabReports `yaml:"reports"`
}

type gitlabReports struct {
	JUnit string `yaml:"junit"`
}

// maxGitLab is the greatest value of parallel.
const maxGitLab = 200

// gitlab writes a child pipeline: a job for each shard, and one that puts them
// together, also when a shard failed.
func gitlab(w io.Writer, p Plan, o Options) error {
	if len(p.Shards) > maxGitLab {
		return fmt.Errorf("%d shards: a parallel job of GitLab has at most %d", len(p.Shards), maxGitLab)
	}
	// A job that is not parallel has no CI_NODE_INDEX.
	number, parallel := "$CI_NODE_INDEX", len(p.Shards)
	if parallel == 1 {
		number, parallel = "1", 0
	}
	keep := func(junit string, paths ...string) gitlabArtifacts {
		return gitlabArtifacts{"always", "2 weeks", paths, gitlabReports{junit}}
	}
	return encode(w, comment(p, "child pipeline of GitLab"), gitlabPipeline{
		// A child pipeline runs whatever its parent's own rules are.
		Workflow: gitlabWorkflow{[]gitlabRule{{When: "always"}}},
		Stages:   []string{"shards", "verdict"},
		Shard: gitlabJob{
			Stage: "shards", Image: o.Image, Tags: o.Tags, Parallel: parallel,
			Script: []string{
				"mkdir -p results",
				p.run(number, fmt.Sprintf(`"results/shard-%s.jsonl"`, number), "--junit", fmt.Sprintf(`"junit-%s.xml"`, number)),
			},
			Artifacts: keep("junit-*.xml", "results/"),
		},
		Verdict: gitlabJob{
			Stage: "verdict", Image: o.Image, Tags: o.Tags, When: "always", Needs: []gitlabNeed{{"shard", true}},
			Script: []string{
				"snplaunch e2e merge --partial results.jsonl results/shard-*.jsonl || true # the report names what is missing, and fails",
				"snplaunch e2e report results.jsonl --html report.html --junit junit.xml",
			},
			// The shards' own reports have every cell already.
			Artifacts: keep("junit.xml", "results/", "results.jsonl", "report.html"),
		},
	})
}

func comment(p Plan, what string) string {
	cells, longest := 0, 0
	for _, s := range p.Shards {
		cells += s.Cells
		longest = max(longest, minutes(s.Cost))
	}
	return fmt.Sprintf("# %s for %q: %d cells in %d shards of at most about %d min.\n# Written by `snplaunch e2e plan`.\n", what, p.Matrix, cells, len(p.Shards), longest)
}
