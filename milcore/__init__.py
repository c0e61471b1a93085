"""The science of Milscope: from cell tables to patients' predictions and the cells that drive them. No screen."""
