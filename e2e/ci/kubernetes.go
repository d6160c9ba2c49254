package ci

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// k8sJob is what a Job of batch/v1 has here; its fields are named and nested as
// in k8s.io/api, which a test decodes it with.
type k8sJob struct {
	APIVersion string  `yaml:"apiVersion"`
	Kind       string  `yaml:"kind"`
	Metadata   k8sMeta `yaml:"metadata"`
	Spec       k8sSpec `yaml:"spec"`
}

type k8sMeta struct {
	GenerateName string            `yaml:"generateName,omitempty"`
	Labels       map[string]string `yaml:"labels"`
}

type k8sSpec struct {
	CompletionMode          string           `yaml:"completionMode"`
	Completions             int              `yaml:"completions"`
	Parallelism             int              `yaml:"parallelism"`
	BackoffLimitPerIndex    int              `yaml:"backoffLimitPerIndex"`
	PodFailurePolicy        k8sFailurePolicy `yaml:"podFailurePolicy"`
	TTLSecondsAfterFinished int              `yaml:"ttlSecondsAfterFinished"`
	Template                k8sTemplate      `yaml:"template"`
}

type k8sFailurePolicy struct {
	Rules []k8sFailureRule `yaml:"rules"`
}

type k8sFailureRule struct {
	Action          string         `yaml:"action"`
	OnPodConditions []k8sCondition `yaml:"onPodConditions"`
}

type k8sCondition struct {
	Type   string `yaml:"type"`
	Status string `yaml:"status"`
}

type k8sTemplate struct {
	Metadata k8sMeta `yaml:"metadata"`
	Spec     k8sPod  `yaml:"spec"`
}

type k8sPod struct {
	RestartPolicy                string            `yaml:"restartPolicy"`
	AutomountServiceAccountToken bool              `yaml:"automountServiceAccountToken"`
	NodeSelector                 map[string]string `yaml:"nodeSelector,omitempty"`
	Containers                   []k8sContainer    `yaml:"containers"`
	Volumes                      []k8sVolume       `yaml:"volumes"`
}

type k8sContainer struct {
	Name            string        `yaml:"name"`
	Image           string        `yaml:"image"`
	Command         []string      `yaml:"command"`
	Env             []k8sEnv      `yaml:"env,omitempty"`
	Resources       *k8sResources `yaml:"resources,omitempty"`
	SecurityContext *k8sSecurity  `yaml:"securityContext,omitempty"`
	VolumeMounts    []k8sMount    `yaml:"volumeMounts"`
}

type k8sEnv struct {
	Name      string     `yaml:"name"`
	ValueFrom k8sEnvFrom `yaml:"valueFrom"`
}

type k8sEnvFrom struct {
	FieldRef k8sFieldRef `yaml:"fieldRef"`
}

type k8sFieldRef struct {
	FieldPath string `yaml:"fieldPath"`
}

type k8sResources struct {
	Limits map[string]string `yaml:"limits"`
}

type k8sSecurity struct {
	Privileged bool `yaml:"privileged"`
}

type k8sMount struct {
	Name      string `yaml:"name"`
	MountPath string `yaml:"mountPath"`
}

type k8sVolume struct {
	Name                  string       `yaml:"name"`
	PersistentVolumeClaim *k8sClaim    `yaml:"persistentVolumeClaim,omitempty"`
	HostPath              *k8sHostPath `yaml:"hostPath,omitempty"`
}

type k8sClaim struct {
	ClaimName string `yaml:"claimName"`
}

type k8sHostPath struct {
	Path string `yaml:"path"`
	Type string `yaml:"type"`
}

// A pod that was evicted is made again and takes its shard up; one whose shard
// failed is not: a failure is found once and told. A failed shard does not end
// the others.
const (
	keepSeconds  = 24 * 60 * 60
	resultsMount = "/results"
)

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// k8sName makes a name of a DNS label of any text, at most long bytes.
func k8sName(s string, long int) string {
	s = strings.Trim(notInName.ReplaceAllString(strings.ToLower(s), "-"), "-")
	return strings.Trim(s[:min(len(s), long)], "-")
}

// kubernetes writes an indexed Job whose pods ask for the SEV device.
func kubernetes(w io.Writer, p Plan, o Options) error {
	switch {
	case o.Image == "":
		return errors.New("name the image that the pods run (--image): it has snplaunch, QEMU, the matrix and what its guests are made of")
	case o.Claim == "":
		return errors.New("name the PersistentVolumeClaim that takes the results (--claim): a pod's own files go with it")
	}
	matrix := k8sName(p.Name, 40)
	// Kubernetes makes $(NAME) of a command its own, and $ of $$.
	literal := strings.NewReplacer("$", "$$")
	p.Matrix, p.Select = literal.Replace(p.Matrix), slices.Clone(p.Select)
	for i, w := range p.Select {
		p.Select[i] = literal.Replace(w)
	}
	labels := map[string]string{"app.kubernetes.io/name": "snplaunch", "app.kubernetes.io/component": "e2e"}
	if matrix != "" {
		labels["snplaunch/matrix"] = matrix
	}
	c := k8sContainer{
		Name: "e2e", Image: o.Image,
		// Indices of a Job begin with 0, shards with 1. --resume takes up what an
		// evicted pod has left; a folder of each Job's own keeps it from taking another
		// Job's results for this one's.
		Command: []string{"/bin/sh", "-ec", "n=$((JOB_COMPLETION_INDEX + 1))\nexec " +
			p.run("$n", `"`+resultsMount+`/$JOB_NAME/shard-$n.jsonl"`, "--resume")},
		Env:          []k8sEnv{{"JOB_NAME", k8sEnvFrom{k8sFieldRef{"metadata.labels['batch.kubernetes.io/job-name']"}}}},
		VolumeMounts: []k8sMount{{"results", resultsMount}},
	}
	pod := k8sPod{RestartPolicy: "Never", Volumes: []k8sVolume{{Name: "results", PersistentVolumeClaim: &k8sClaim{o.Claim}}}}
	selector := o.NodeSelector
	if p.Backend != "sim" {
		if selector == nil {
			selector = defaultSelector
		}
		if o.HostDevices {
			// Without a device plugin, only a privileged container may open a
			// device of the node.
			c.SecurityContext = &k8sSecurity{Privileged: true}
			for _, name := range []string{"kvm", "sev"} {
				c.VolumeMounts = append(c.VolumeMounts, k8sMount{name, "/dev/" + name})
				pod.Volumes = append(pod.Volumes, k8sVolume{Name: name, HostPath: &k8sHostPath{"/dev/" + name, "CharDevice"}})
			}
		} else {
			devices := o.Devices
			if devices == nil {
				devices = defaultDevices
			}
			c.Resources = &k8sResources{map[string]string{}}
			for _, d := range devices {
				c.Resources.Limits[d] = "1"
			}
		}
	}
	pod.NodeSelector, pod.Containers = maps.Clone(selector), []k8sContainer{c}
	return encode(w, comment(p, "Job of Kubernetes")+fmt.Sprintf("# Submit it with `kubectl create -f`; then merge the files in the folder of the Job's name in the claim %s.\n", o.Claim), k8sJob{
		APIVersion: "batch/v1", Kind: "Job",
		Metadata: k8sMeta{GenerateName: strings.Trim("snplaunch-"+matrix, "-") + "-", Labels: labels},
		Spec: k8sSpec{
			CompletionMode: "Indexed", Completions: len(p.Shards), Parallelism: len(p.Shards), TTLSecondsAfterFinished: keepSeconds,
			PodFailurePolicy: k8sFailurePolicy{[]k8sFailureRule{{"Ignore", []k8sCondition{{"DisruptionTarget", "True"}}}}},
			Template:         k8sTemplate{Metadata: k8sMeta{Labels: labels}, Spec: pod},
		},
	})
}
