# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors

project = "vDPA framework for DPDK"
author = "The vDPA framework authors"
copyright = "2026, " + author
extensions = []
root_doc = "index"
html_theme = "alabaster"
html_theme_options = {"page_width": "66em", "fixed_sidebar": True}
nitpicky = True
