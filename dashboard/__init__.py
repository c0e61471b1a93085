"""The screens of Milscope: command line, dashboard, report."""
