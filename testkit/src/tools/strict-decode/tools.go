// Reads YAML documents from standard input and decodes each strictly into the type that its authors publish for its
// apiVersion and kind: a field that does not exist, or has another type, is an error.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	helm "github.com/fluxcd/helm-controller/api/v2"
	kustomize "github.com/fluxcd/kustomize-controller/api/v1"
	source "github.com/fluxcd/source-controller/api/v1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

var kinds = map[string]func() any{
	"monitoring.coreos.com/v1 ServiceMonitor":      func() any { return &monitoring.ServiceMonitor{} },
	"monitoring.coreos.com/v1 PodMonitor":          func() any { return &monitoring.PodMonitor{} },
	"monitoring.coreos.com/v1 PrometheusRule":      func() any { return &monitoring.PrometheusRule{} },
	"kustomize.toolkit.fluxcd.io/v1 Kustomization": func() any { return &kustomize.Kustomization{} },
	"helm.toolkit.fluxcd.io/v2 HelmRelease":        func() any { return &helm.HelmRelease{} },
	"source.toolkit.fluxcd.io/v1 OCIRepository":    func() any { return &source.OCIRepository{} },
	"source.toolkit.fluxcd.io/v1 GitRepository":    func() any { return &source.GitRepository{} },
}

func main() {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	for number := 1; ; number++ {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			err = check(document)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "document %d: %v\n", number, err)
			os.Exit(1)
		}
	}
}

func check(document []byte) error {
	var about metav1.TypeMeta
	if err := yaml.Unmarshal(document, &about); err != nil {
		return err
	}
	name := about.APIVersion + " " + about.Kind
	into, known := kinds[name]
	if !known {
		return fmt.Errorf("%s is not among the kinds that are known here", name)
	}
	if err := yaml.UnmarshalStrict(document, into()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
